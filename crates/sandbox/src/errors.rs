//! Keeps what libcontainer logs at level ERROR, so that a failure is told with its reason.
//!
//! libcontainer's errors cross its own processes as one line without their sources ("io error"); the reason is
//! in what those processes logged. They share this file: an anonymous one, inherited over fork.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::OnceLock;

use nix::sys::memfd::{MFdFlags, memfd_create};
use tracing::field::{Field, Visit};
use tracing::span;

use crate::{Error, limits};

static LOG: OnceLock<File> = OnceLock::new();

/// Makes ERROR events and panics of this process, and of those forked from it once [`begin`] was called, go
/// to the file. A panic is told on stderr too, which in a started container is its log.
pub fn install() {
    let _ = tracing::subscriber::set_global_default(Collector);
    std::panic::set_hook(Box::new(|panic| {
        write_line(&panic.to_string().replace('\n', " "));
        eprintln!("{panic}");
    }));
}

/// Opens an empty file for this process and those it forks.
pub fn begin() {
    if let Ok(fd) = memfd_create(c"errors", MFdFlags::MFD_CLOEXEC) {
        let _ = LOG.set(File::from(fd));
    }
}

/// What was logged since [`begin`], one entry a line, oldest (nearest the cause) first.
fn collected() -> Vec<String> {
    let mut text = String::new();
    if let Some(mut file) = LOG.get() {
        let _ = file.seek(SeekFrom::Start(0));
        let _ = file.take(limits::ERROR_LOG_BYTES).read_to_string(&mut text);
    }
    text.lines().map(str::to_owned).collect()
}

/// The file's descriptor, for who closes all others: it must not become another file's number.
pub fn descriptor() -> Option<RawFd> {
    LOG.get().map(AsRawFd::as_raw_fd)
}

/// An error with its sources, `a: b: c`, without what a message already repeats of the next.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text
}

/// Error of a library with its sources, preceded by the cause that the library only logged.
pub fn explain(error: &dyn std::error::Error) -> Error {
    let text = chain(error);
    let cause = collected().into_iter().find(|line| !text.contains(line.as_str()));
    Error::Container(match cause {
        Some(cause) => format!("{cause}: {text}"),
        None => text,
    })
}

fn write_line(line: &str) {
    if let Some(mut file) = LOG.get() {
        let _ = writeln!(file, "{line}");
    }
}

struct Collector;

impl tracing::Subscriber for Collector {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        let level = *metadata.level();
        level == tracing::Level::ERROR || trace::is_on() && metadata.is_event()
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = format!("{}{}", line.message, line.fields);
        match *event.metadata().level() {
            tracing::Level::ERROR => write_line(&text),
            _ => trace::mark(&format!("{}: {text}", event.metadata().target())),
        }
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

/// One event as `message (field=value, …)`.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, ", {}={value:?}", field.name())
        };
    }
}
