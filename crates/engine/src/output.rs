//! The guest's standard output and error. The end of standard error is also kept. If a Pod asks for it, the lines of
//! different instances are kept apart, and each begins with the id of the request that it belongs to.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use hyper::body::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::log_rate;
use crate::stderr::{has_open_line, keep};

/// How much a guest may write at once, in bytes: as much as of Wasmtime's own streams.
const AT_ONCE: usize = 64 << 10;

/// Which of the two.
#[derive(Clone, Copy)]
enum Kind {
    Stdout,
    Stderr,
}

/// Whose line has not ended yet, of either; of an instance, its number.
static OPEN: [Mutex<Option<u64>>; 2] = [Mutex::new(None), Mutex::new(None)];

/// In place of an instance's number: an open line that no instance continues.
const NO_INSTANCE: u64 = u64::MAX;

/// Instances so far.
static INSTANCES: AtomicU64 = AtomicU64::new(0);

/// An instance whose lines are kept apart from those of others.
#[derive(Clone)]
pub struct LinePrefixer {
    number: u64,
    /// Of the request that it serves; empty where lines have none.
    id: Arc<Mutex<String>>,
}

impl LinePrefixer {
    /// Another one.
    pub fn new() -> LinePrefixer {
        LinePrefixer { number: INSTANCES.fetch_add(1, Ordering::Relaxed), id: Arc::default() }
    }

    /// What its lines begin with from now on, another one first.
    pub fn set_id(&self, id: String) {
        for open in &OPEN {
            let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
            *open = open.map(|number| if number == self.number { NO_INSTANCE } else { number });
        }
        *self.id.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// The id of its request, if there is one.
    pub fn id(&self) -> String {
        self.id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is to be written, where this one's line may be open.
    fn lines(&self, bytes: &[u8], open: &mut Option<u64>) -> Vec<u8> {
        let id = self.id.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = Vec::with_capacity(bytes.len() + id.len() + 2);
        if open.is_some_and(|open| open != self.number) {
            text.push(b'\n');
            *open = None;
        }
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            if open.is_none() && !id.is_empty() {
                text.extend_from_slice(id.as_bytes());
                text.push(b' ');
            }
            text.extend_from_slice(part);
            *open = (!part.ends_with(b"\n")).then_some(self.number);
        }
        text
    }
}

/// Writes a line of the access log, which counts as one of the guest's: clients decide how many there are. Errors are
/// ignored: without a reader there is nowhere to report them.
pub fn log_on_stdout(line: &[u8]) {
    Kind::Stdout.log_at_rate(line);
}

/// Writes a line of the runtime's own to stderr.
pub fn log_on_stderr(line: &[u8]) {
    Kind::Stderr.log(line);
}

/// The same for a line about the output itself, which is no reason of the guest's end: it is not kept as one of the last lines.
pub fn log_about_output(line: &[u8]) {
    Kind::Stderr.log_by(line, |stderr, bytes| stderr.write_of(b"", bytes));
}

/// Writes lines that count as the guest's to stderr, apart from others.
pub fn log_at_rate_on_stderr(lines: &[u8]) {
    Kind::Stderr.log_at_rate(lines);
}

/// As [`io::Stdout`] or [`io::Stderr`], which block.
#[derive(Clone)]
pub struct Output {
    kind: Kind,
    prefixer: Option<LinePrefixer>,
}

impl Output {
    /// Standard output.
    pub fn stdout(prefixer: Option<LinePrefixer>) -> Output {
        Output { kind: Kind::Stdout, prefixer }
    }

    /// Standard error.
    pub fn stderr(prefixer: Option<LinePrefixer>) -> Output {
        Output { kind: Kind::Stderr, prefixer }
    }

    fn emit(&self, bytes: &[u8]) -> io::Result<()> {
        let Some(prefixer) = &self.prefixer else { return self.kind.write_of_guest(bytes) };
        let mut open = OPEN[self.kind as usize].lock().unwrap_or_else(PoisonError::into_inner);
        self.kind.write_of_guest(&prefixer.lines(bytes, &mut open))
    }
}

impl Kind {
    fn log(self, line: &[u8]) {
        self.log_by(line, Kind::write);
    }

    /// Writes as many of these lines as the guest may write. What is dropped is kept all the same.
    fn log_at_rate(self, lines: &[u8]) {
        let Some(rate) = log_rate::get() else { return self.log(lines) };
        let passed = rate.pass_apart(self as usize, lines);
        let write = |kind: Kind, written: &[u8]| kind.write_of(&[lines, b"\n"].concat(), written);
        if passed.is_empty() {
            let _ = write(self, b"");
            return;
        }
        self.log_by(passed.strip_suffix(b"\n").unwrap_or(&passed), write);
    }

    fn log_by(self, line: &[u8], write: impl FnOnce(Kind, &[u8]) -> io::Result<()>) {
        let mut open = OPEN[self as usize].lock().unwrap_or_else(PoisonError::into_inner);
        // Guests whose lines are not kept apart may have one open as well.
        let is_open = open.take().is_some() || (matches!(self, Kind::Stderr) && has_open_line());
        let begin: &[u8] = if is_open { b"\n" } else { b"" };
        if let Some(rate) = log_rate::get() {
            rate.closed(self as usize);
        }
        let _ = write(self, &[begin, line, b"\n"].concat());
    }

    fn write(self, bytes: &[u8]) -> io::Result<()> {
        self.write_of(bytes, bytes)
    }

    /// Writes as much as the guest may write.
    fn write_of_guest(self, bytes: &[u8]) -> io::Result<()> {
        let Some(rate) = log_rate::get() else { return self.write(bytes) };
        self.write_of(bytes, &rate.pass(self as usize, bytes))
    }

    /// Writes a part of these bytes, or something in their place. The end of standard error is kept as if all were written.
    fn write_of(self, bytes: &[u8], written: &[u8]) -> io::Result<()> {
        match self {
            Kind::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(written)?;
                stdout.flush()
            }
            Kind::Stderr => {
                keep(bytes, written);
                io::stderr().write_all(written)
            }
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        match self.kind {
            Kind::Stdout => IsTerminal::is_terminal(&io::stdout()),
            Kind::Stderr => IsTerminal::is_terminal(&io::stderr()),
        }
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.emit(&bytes).map_err(|error| match error.kind() {
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

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let part = &bytes[..bytes.len().min(AT_ONCE)];
        Poll::Ready(self.emit(part).map(|()| part.len()))
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
    fn each_line_begins_with_the_id_of_its_request_however_it_is_written() {
        let (one, other, mut open) = (LinePrefixer::new(), LinePrefixer::new(), None);
        let mut written = |prefixer: &LinePrefixer, text: &str| {
            String::from_utf8(prefixer.lines(text.as_bytes(), &mut open)).expect("text")
        };
        assert_eq!(written(&one, "at the start\n"), "at the start\n");
        one.set_id("a".into());
        assert_eq!(written(&one, "one\ntw"), "a one\na tw");
        assert_eq!(written(&one, "o\n\n"), "o\na \n");
        one.set_id("b".into());
        assert_eq!(written(&one, "three"), "b three");
        other.set_id("c".into());
        assert_eq!(written(&other, "four\n"), "\nc four\n", "a line of its own");
    }
}
