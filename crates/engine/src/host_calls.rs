//! Records which host function a guest called last. Together with the backtrace, it shows what the guest was doing when
//! it failed.
//!
//! Wasmtime's bindings report each call as a span of the crate `tracing`. Nothing is formatted here, because each
//! function has span metadata of its own, by which it is known. Its name is read once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Event, Metadata, Subscriber};

use crate::files;

/// Names of the spans for imports of components and of modules.
const SPANS: [&str; 2] = ["wit-bindgen import", "wiggle abi"];

/// Names of the called functions, by the ids of their spans.
static NAMES: Mutex<BTreeMap<u64, String>> = Mutex::new(BTreeMap::new());

thread_local! {
    static LAST: Cell<u64> = const { Cell::new(0) };
    // Ids that are in NAMES, so that a call takes no lock.
    static SEEN: RefCell<BTreeSet<u64>> = const { RefCell::new(BTreeSet::new()) };
}

/// Records the calls on this thread until the guard is dropped.
pub fn note() -> DefaultGuard {
    tracing::subscriber::set_default(Notes)
}

/// Records a call that no binding reports, by its name: `wasi:logging log`.
pub fn enter(name: &'static str) {
    let id = name.as_ptr() as u64;
    note_name(id, || name.to_owned());
    LAST.set(id);
}

/// Stores the name of a function at its first call on this thread.
fn note_name(id: u64, name: impl FnOnce() -> String) {
    SEEN.with_borrow_mut(|seen| {
        if seen.insert(id) {
            NAMES.lock().unwrap_or_else(PoisonError::into_inner).insert(id, name());
        }
    });
}

/// Records that the next guest on this thread has called nothing yet.
pub fn forget() {
    LAST.set(0);
}

/// The last call at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Mark(u64);

/// Returns the last call on this thread, for [`reset`].
pub fn mark() -> Mark {
    Mark(LAST.get())
}

/// Makes that call the last one again, after calls that were not the guest's own.
pub fn reset(mark: Mark) {
    LAST.set(mark.0);
}

/// Returns the last function that was called on this thread: `wasi:io/poll [method]pollable.block`.
pub fn last() -> Option<String> {
    NAMES.lock().unwrap_or_else(PoisonError::into_inner).get(&LAST.get()).cloned()
}

struct Notes;

impl Subscriber for Notes {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        (metadata.is_span() && SPANS.contains(&metadata.name())) || files::is_error(metadata)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = std::ptr::from_ref(span.metadata()) as u64;
        note_name(id, || Name::of(span));
        Id::from_u64(id)
    }

    /// For an asynchronous function, this is called each time it continues.
    fn enter(&self, span: &Id) {
        LAST.set(span.into_u64());
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        if files::is_error(event.metadata()) {
            files::note_error(event);
        }
    }
    fn exit(&self, _: &Id) {}
}

/// Fields of a span.
#[derive(Default)]
struct Name {
    interface: String,
    function: String,
}

impl Name {
    fn of(span: &Attributes<'_>) -> String {
        let mut name = Name::default();
        span.record(&mut name);
        let interface = package(span.metadata().target()).unwrap_or(name.interface);
        format!("{interface} {}", name.function)
    }
}

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "module" => self.interface = value.to_owned(),
            "function" => self.function = value.to_owned(),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// Returns the interface with its package, from the module of its bindings, `…::wasi::io::poll`. The field has the interface
/// alone.
fn package(target: &str) -> Option<String> {
    let (_, path) = target.rsplit_once("::wasi::")?;
    let (package, interface) = path.split_once("::")?;
    let interface = interface.split("::").next().unwrap_or(interface);
    Some(format!("wasi:{package}/{}", interface.replace('_', "-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_known_by_where_its_bindings_are() {
        let known = package("wasmtime_wasi::p2::bindings::async_io::wasi::clocks::wall_clock");
        assert_eq!(known.as_deref(), Some("wasi:clocks/wall-clock"));
        assert_eq!(package("wasmtime_wasi::p1::types"), None);
    }
}
