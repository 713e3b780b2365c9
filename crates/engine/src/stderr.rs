//! The guest's standard error, the end of which is kept: what a guest said last is often why it ended.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// How much is kept, in bytes.
pub const KEPT: usize = 1 << 10;

/// How much a guest may write at once, in bytes: as much as of Wasmtime's own streams.
const AT_ONCE: usize = 64 << 10;

static END: Mutex<End> = Mutex::new(End(Vec::new()));

/// Keeps the end of what is written.
pub fn keep(bytes: &[u8]) {
    END.lock().unwrap_or_else(PoisonError::into_inner).keep(bytes);
}

/// The last lines that were written, each of them whole but one that is longer than what is kept.
pub fn last_lines() -> String {
    END.lock().unwrap_or_else(PoisonError::into_inner).last_lines()
}

/// The last bytes of a text.
struct End(Vec<u8>);

impl End {
    fn keep(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let surplus = self.0.len().saturating_sub(KEPT);
        self.0.drain(..surplus);
    }

    fn last_lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let is_cut = self.0.len() == KEPT;
        match text.split_once('\n') {
            Some((_, whole)) if is_cut && !whole.is_empty() => whole.to_owned(),
            _ => text.into_owned(),
        }
    }
}

/// As [`io::Stderr`], which blocks, and kept.
pub struct Stderr;

impl IsTerminal for Stderr {
    fn is_terminal(&self) -> bool {
        IsTerminal::is_terminal(&io::stderr())
    }
}

impl StdoutStream for Stderr {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Stderr)
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Stderr)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Stderr {
    async fn ready(&mut self) {}
}

impl OutputStream for Stderr {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        keep(&bytes);
        io::stderr().write_all(&bytes).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => StreamError::Closed,
            _ => StreamError::LastOperationFailed(error.into()),
        })
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(AT_ONCE)
    }
}

impl AsyncWrite for Stderr {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        keep(bytes);
        Poll::Ready(io::stderr().write_all(bytes).map(|()| bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_whole() {
        let mut end = End(Vec::new());
        end.keep(b"one\ntwo\n");
        assert_eq!(end.last_lines(), "one\ntwo\n");
        for number in 0..1000 {
            end.keep(format!("line {number}\n").as_bytes());
        }
        let lines = end.last_lines();
        assert!(lines.len() < KEPT && lines.ends_with("line 998\nline 999\n"), "{lines}");
        assert!(lines.lines().all(|line| line.starts_with("line ")), "{lines}");
        end.keep(&[b'x'; 3 * KEPT]);
        assert_eq!(end.last_lines(), "x".repeat(KEPT));
    }
}
