//! The socket of a connection: with what was read of it ahead, bounded writes, and an end that its client hears of.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_io_timeout::TimeoutWriter;

use super::connection::Client;

/// How a connection of HTTP/2 begins (RFC 9113, section 3.4); nothing of HTTP/1.1 does. hyper waits for all of it, as long
/// as that takes, and does not end meanwhile.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is still on its way is read for so long where there is something at the end. Otherwise the client's system may drop
/// the response that it has not read yet: closing a socket with something to read resets the connection.
const LINGER: Duration = Duration::from_secs(1);

/// What is read at a time of what nobody wants.
const UNWANTED: usize = 4096;

/// The first bytes of a connection.
pub struct First {
    bytes: [u8; PREFACE.len()],
    start: usize,
    end: usize,
}

impl First {
    /// Reads as many as it takes to tell HTTP/2 from HTTP/1.1.
    ///
    /// # Errors
    /// Of a client that is gone before, and of recv(2).
    pub async fn read(stream: &mut TcpStream) -> io::Result<First> {
        let mut first = First { bytes: [0; PREFACE.len()], start: 0, end: 0 };
        while first.end < PREFACE.len() && PREFACE.starts_with(&first.bytes[..first.end]) {
            match stream.read(&mut first.bytes[first.end..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => first.end += count,
            }
        }
        Ok(first)
    }

    /// Whether they are those of HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.bytes[..self.end] == *PREFACE
    }
}

/// The socket.
pub struct Wire {
    stream: Pin<Box<TimeoutWriter<TcpStream>>>,
    first: First,
    client: Arc<Client>,
    end: End,
}

enum End {
    /// Nothing of it yet.
    Open,
    /// The client was told, and may be sending all the same.
    Told,
    /// So it is.
    Lingering(Pin<Box<Sleep>>),
}

impl Wire {
    /// After its first bytes. Its client may leave what is written to it for so long.
    pub fn new(stream: TcpStream, first: First, patience: Duration, client: Arc<Client>) -> Wire {
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(patience));
        Wire { stream: Box::pin(stream), first, client, end: End::Open }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.client.is_reset() {
            let at_once = linger { l_onoff: 1, l_linger: 0 };
            let _ = setsockopt(self.stream.get_ref(), sockopt::Linger, &at_once);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let First { bytes, start, end } = &mut self.first;
        if start == end {
            return self.stream.as_mut().poll_read(context, into);
        }
        let count = into.remaining().min(*end - *start);
        into.put_slice(&bytes[*start..*start + count]);
        *start += count;
        // The rest, if it is there: a head is looked at once. Its errors come again.
        let _ = self.stream.as_mut().poll_read(context, into);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if matches!(self.end, End::Open) {
            ready!(self.stream.as_mut().poll_shutdown(context))?;
            self.end = End::Told;
        }
        loop {
            if let End::Lingering(time) = &mut self.end
                && time.as_mut().poll(context).is_ready()
            {
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; UNWANTED];
            let mut unwanted = ReadBuf::new(&mut bytes);
            let read = self.stream.as_mut().poll_read(context, &mut unwanted);
            match (read, &self.end) {
                // Nothing more was sent, and what comes from here on comes after the response has been read.
                (Poll::Pending, End::Told) => return Poll::Ready(Ok(())),
                (Poll::Pending, _) => return Poll::Pending,
                (Poll::Ready(Ok(())), _) if unwanted.filled().is_empty() => {
                    return Poll::Ready(Ok(()));
                }
                (Poll::Ready(Ok(())), End::Lingering(_)) => {}
                (Poll::Ready(Ok(())), _) => self.end = End::Lingering(Box::pin(sleep(LINGER))),
                (Poll::Ready(Err(_)), _) => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Tells a client for whom there is no room, and ends the connection.
pub async fn refuse(mut stream: TcpStream, answer: &[u8]) {
    use tokio::io::AsyncWriteExt;
    // As much of it as the socket takes, which is new.
    let _ = stream.try_write(answer);
    let _ = stream.shutdown().await;
    let linger = async {
        let mut unwanted = [0; UNWANTED];
        while stream.read(&mut unwanted).await.is_ok_and(|count| count > 0) {}
    };
    let _ = tokio::time::timeout(LINGER, linger).await;
}
