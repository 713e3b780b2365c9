//! The socket of a connection: replays the bytes that were read to detect the protocol, bounds writes, and closes so that the
//! client receives the last response.

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

use super::client::Client;

/// Preface of an HTTP/2 connection (RFC 9113, section 3.4); no HTTP/1.1 request begins like it. hyper would wait for all of
/// it without a time limit, also during shutdown.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long unread input is discarded before the socket closes. Closing a socket with unread input sends a reset, and the
/// client's kernel may then drop the response that the client has not read yet.
const LINGER: Duration = Duration::from_secs(1);

/// Size of the buffer for discarded input.
const UNWANTED: usize = 4096;

/// The first bytes of a connection.
pub struct First {
    bytes: [u8; PREFACE.len()],
    start: usize,
    end: usize,
}

impl First {
    /// Reads as many bytes as are needed to distinguish HTTP/2 from HTTP/1.1.
    ///
    /// # Errors
    /// If the client closes the connection before, and those of recv(2).
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
    /// Both directions are open.
    Open,
    /// The write side is shut down.
    Shut,
    /// There was unread input, which is discarded until this time.
    Lingering(Pin<Box<Sleep>>),
}

impl Wire {
    /// With the first bytes that were read of it, and the time that a write may stall.
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
        // Append what else has arrived, so that hyper parses a head once. Errors and the end of input are reported by the next read.
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
            self.end = End::Shut;
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
                // No unread input: the close will not be a reset.
                (Poll::Pending, End::Shut) => return Poll::Ready(Ok(())),
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

/// Sends a fixed response and closes the connection.
pub async fn refuse(mut stream: TcpStream, answer: &[u8]) {
    use tokio::io::AsyncWriteExt;
    // The buffer of a new socket has room for it.
    let _ = stream.try_write(answer);
    let _ = stream.shutdown().await;
    let linger = async {
        let mut unwanted = [0; UNWANTED];
        while stream.read(&mut unwanted).await.is_ok_and(|count| count > 0) {}
    };
    let _ = tokio::time::timeout(LINGER, linger).await;
}
