//! The socket of a connection: replays the bytes that were read to detect the protocol, bounds writes, and closes so that the
//! client receives the last response.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Bytes;
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

/// Bytes of a connection that were read already.
pub struct First(Bytes);

impl First {
    /// Reads as many bytes as are needed to distinguish HTTP/2 from HTTP/1.1.
    ///
    /// # Errors
    /// If the client closes the connection before, and those of recv(2).
    pub async fn read(stream: &mut TcpStream) -> io::Result<First> {
        let (mut bytes, mut end) = ([0; PREFACE.len()], 0);
        while end < PREFACE.len() && PREFACE.starts_with(&bytes[..end]) {
            match stream.read(&mut bytes[end..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => end += count,
            }
        }
        Ok(First(Bytes::copy_from_slice(&bytes[..end])))
    }

    /// Reads the bytes that have arrived, a few of them at most.
    ///
    /// # Errors
    /// As of [`First::read`].
    pub async fn read_some(stream: &mut TcpStream) -> io::Result<First> {
        let mut bytes = [0; PREFACE.len()];
        match stream.read(&mut bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(First(Bytes::copy_from_slice(&bytes[..count]))),
        }
    }

    /// Whether they are those of HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.0 == PREFACE
    }
}

/// The socket.
pub struct Wire {
    stream: Pin<Box<TimeoutWriter<TcpStream>>>,
    first: First,
    client: Arc<Client>,
    end: End,
}

/// What the connection's user has read and written, by which it is seen whether anything is left to be written or to be
/// answered.
#[derive(Default)]
pub struct Traffic {
    /// Reads that found something.
    reads: AtomicU64,
    /// The reads before the last write.
    answered: AtomicU64,
    /// Whether what was written was flushed, so that nothing of it is left in a buffer.
    is_flushed: AtomicBool,
}

impl Traffic {
    /// If all that was read was answered, and all that was written flushed: how often it was read so far.
    pub fn quiet_since(&self) -> Option<u64> {
        let Traffic { reads, answered, is_flushed } = self;
        let reads = reads.load(Ordering::Relaxed);
        let is_quiet =
            is_flushed.load(Ordering::Relaxed) && answered.load(Ordering::Relaxed) == reads;
        is_quiet.then_some(reads)
    }

    fn has_read(&self) {
        self.reads.fetch_add(1, Ordering::Relaxed);
    }

    fn writes(&self) {
        self.answered.store(self.reads.load(Ordering::Relaxed), Ordering::Relaxed);
        self.is_flushed.store(false, Ordering::Relaxed);
    }

    fn has_flushed(&self) {
        self.is_flushed.store(true, Ordering::Relaxed);
    }
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

    /// Has these bytes, which were read of it, read again.
    pub fn unread(&mut self, bytes: Bytes) {
        self.first = First(bytes);
    }

    /// Its socket without the event loop, under another descriptor: this one can be dropped.
    ///
    /// # Errors
    /// Of dup(2).
    pub fn socket(&self) -> io::Result<std::net::TcpStream> {
        Ok(self.stream.get_ref().as_fd().try_clone_to_owned()?.into())
    }

    fn poll_bytes(
        &mut self,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let first = &mut self.first.0;
        if first.is_empty() {
            return self.stream.as_mut().poll_read(context, into);
        }
        into.put_slice(&first.split_to(into.remaining().min(first.len())));
        // Append what else has arrived, so that hyper parses a head once. Errors and the end of input are reported by the next read.
        let _ = self.stream.as_mut().poll_read(context, into);
        Poll::Ready(Ok(()))
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
        let before = into.filled().len();
        let read = self.poll_bytes(context, into);
        if into.filled().len() > before {
            self.client.traffic.has_read();
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.client.traffic.writes();
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.client.traffic.writes();
        self.stream.as_mut().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.stream.as_mut().poll_flush(context);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.client.traffic.has_flushed();
        }
        flushed
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
