//! Errors of files that Wasmtime passes on as "I/O error" for want of a name, though WASI has one for them.
//!
//! By the time a host function returns, the system's own number is gone. Wasmtime logs it, as it does nothing else at that
//! place, just before that, on the thread that the call is made on; so it is read there, as `host_calls` reads which
//! function is called.

use std::cell::Cell;
use std::fmt::Debug;

use nix::errno::Errno;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata};

/// Where Wasmtime gives errors their names.
const TARGETS: [&str; 2] = ["wasmtime_wasi::filesystem", "wasmtime_wasi::p2::host::filesystem"];

/// Before the number in the text of an error (`std::io::Error`).
const NUMBER: &str = "(os error ";

thread_local! {
    static LAST: Cell<Option<Errno>> = const { Cell::new(None) };
}

/// Whether an event is about such an error.
pub fn is_told(metadata: &Metadata<'_>) -> bool {
    let is_there = || TARGETS.contains(&metadata.target());
    metadata.is_event() && *metadata.level() == Level::DEBUG && is_there()
}

/// Takes note of the error that an event is about.
pub fn note(event: &Event<'_>) {
    event.record(&mut Number);
}

/// The error that was noted last on this thread, once.
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

/// The name of an error among the codes of `wasi:filesystem`, 0.2 as well as 0.3.
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
