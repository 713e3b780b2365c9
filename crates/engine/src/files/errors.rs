//! Errors of files that Wasmtime returns as "I/O error", though WASI has a code for them.
//!
//! When a host function returns, the system's error number is gone. But if Wasmtime has no code for an error, it logs
//! the error with its number, on the thread of the call and just before the function returns. So the number is read
//! from that event, as `host_calls` reads from Wasmtime's spans which function is called.

use std::cell::Cell;
use std::fmt::Debug;

use nix::errno::Errno;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

/// The modules of Wasmtime that turn errors into codes.
const TARGETS: [&str; 2] = ["wasmtime_wasi::filesystem", "wasmtime_wasi::p2::host::filesystem"];

/// What precedes the number in the text of an error (`std::io::Error`).
const NUMBER: &str = "(os error ";

thread_local! {
    static LAST: Cell<Option<Errno>> = const { Cell::new(None) };
}

/// Whether an event is about such an error.
pub fn is_about(metadata: &Metadata<'_>) -> bool {
    metadata.is_event() && *metadata.level() == Level::DEBUG && TARGETS.contains(&metadata.target())
}

/// Records the error that an event is about.
pub fn note(event: &Event<'_>) {
    event.record(&mut Number);
}

/// Takes the last error that was recorded on this thread.
pub fn take() -> Option<Errno> {
    LAST.take()
}

struct Number;

impl Visit for Number {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        LAST.set(number(&format!("{value:?}")).or(LAST.get()));
    }
}

fn number(text: &str) -> Option<Errno> {
    let (_, rest) = text.rsplit_once(NUMBER)?;
    rest.strip_suffix(')')?.parse().ok().map(Errno::from_raw)
}

/// The code of an error in `wasi:filesystem`, of 0.2 or 0.3.
macro_rules! named {
    ($errno:expr, $code:ident) => {
        match $errno {
            nix::errno::Errno::EDEADLK => Some($code::Deadlock),
            nix::errno::Errno::EDQUOT => Some($code::Quota),
            nix::errno::Errno::EMSGSIZE => Some($code::MessageSize),
            nix::errno::Errno::ENODEV => Some($code::NoDevice),
            nix::errno::Errno::ENOLCK => Some($code::NoLock),
            nix::errno::Errno::ENOTRECOVERABLE => Some($code::NotRecoverable),
            nix::errno::Errno::ENOTTY => Some($code::NoTty),
            nix::errno::Errno::ENXIO => Some($code::NoSuchDevice),
            nix::errno::Errno::EROFS => Some($code::ReadOnly),
            nix::errno::Errno::ETXTBSY => Some($code::TextFileBusy),
            nix::errno::Errno::EXDEV => Some($code::CrossDevice),
            _ => None,
        }
    };
}
pub(super) use named;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_what_the_text_of_an_error_ends_with() {
        let error = std::io::Error::from(Errno::EROFS);
        assert_eq!(number(&format!("unknown raw os error: {error}")), Some(Errno::EROFS));
        assert_eq!(number("no number"), None);
    }
}
