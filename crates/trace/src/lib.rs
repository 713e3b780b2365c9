//! Records where the time of a start goes: one line for each finished step, if the environment asks for it.
//!
//! `WASMTIME_SHIM_TRACE` names a file to which each process of the shim appends ([`VARIABLE`]). `make bench-trace` sets
//! it for its containerd and prints the result. Processes inherit the descriptor by fork, because a container's process
//! can no longer open the path. [`last`] or [`end`] closes it before a guest's entry is called or a program is
//! executed. If the variable is not set, a step costs one read of a static.
//!
//! A line has these fields, separated by a space: the clock at the start and at the end of the step (CLOCK_MONOTONIC,
//! in nanoseconds; equal for a mark), the process's pid in its pid namespace, the id that the shim was executed with,
//! the kind of process, and the name of the step up to the end of the line.

#![forbid(unsafe_code)]

use std::env;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::time::{ClockId, clock_gettime};

/// The environment variable with the path of the file.
pub const VARIABLE: &str = "WASMTIME_SHIM_TRACE";

/// Longest name that is written, in characters. Some names contain a path.
const LONGEST: usize = 100;

static ON: AtomicBool = AtomicBool::new(false);

static TRACE: Mutex<Option<Trace>> = Mutex::new(None);

/// The trace file and the identity of this process.
struct Trace {
    file: File,
    id: String,
    process: &'static str,
}

/// A step in progress. It ends when the value is dropped.
#[derive(Debug)]
#[must_use = "a span lasts as long as this value"]
pub struct Span(Option<(i64, &'static str)>);

/// Opens the file if the environment names one. If the file cannot be opened, there is no trace.
pub fn begin(process: &'static str, id: &str) {
    let Some(path) = env::var_os(VARIABLE) else { return };
    if let Ok(file) = File::options().append(true).create(true).open(path) {
        *trace() = Some(Trace { file, id: id.to_owned(), process });
        ON.store(true, Ordering::Relaxed);
    }
}

/// Sets the name of this process after a fork.
pub fn process(name: &'static str) {
    if let Some(trace) = trace().as_mut() {
        trace.process = name;
    }
}

/// Returns whether a trace is written.
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Starts a step that ends when the returned value is dropped.
pub fn span(name: &'static str) -> Span {
    Span(is_on().then(|| (now(), name)))
}

/// Records an event that takes no time.
pub fn mark(name: &str) {
    if is_on() {
        let now = now();
        write(now, now, name);
    }
}

/// Records the last event of this process and closes the file.
pub fn last(name: &str) {
    mark(name);
    end();
}

/// Closes the file.
pub fn end() {
    if is_on() {
        ON.store(false, Ordering::Relaxed);
        *trace() = None;
    }
}

/// Returns the file's descriptor, for code that closes all others.
pub fn descriptor() -> Option<RawFd> {
    if is_on() { trace().as_ref().map(|trace| trace.file.as_raw_fd()) } else { None }
}

impl Drop for Span {
    fn drop(&mut self) {
        if let Some((start, name)) = self.0 {
            write(start, now(), name);
        }
    }
}

fn now() -> i64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC);
    time.map(|time| time.tv_sec() * 1_000_000_000 + time.tv_nsec()).unwrap_or_default()
}

/// Writes the line with one write(2), so that the lines of all processes stay whole.
fn write(start: i64, end: i64, name: &str) {
    if let Some(Trace { file, id, process }) = trace().as_mut() {
        let name: String = name.lines().next().unwrap_or_default().chars().take(LONGEST).collect();
        let line = format!("{start} {end} {} {id} {process} {name}\n", std::process::id());
        let _ = file.write_all(line.as_bytes());
    }
}

fn trace() -> MutexGuard<'static, Option<Trace>> {
    TRACE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::process::Command;

    /// Set in the separate process in which the test runs, because a trace belongs to a process.
    const INSIDE: &str = "WASMTIME_SHIM_TEST_TRACE";

    #[test]
    fn each_step_is_a_line_until_the_last() {
        if env::var_os(INSIDE).is_some() {
            super::begin("shim", "c1");
            drop(super::span("a step"));
            super::process("guest");
            super::last("the end");
            super::mark("too late");
            assert!(super::descriptor().is_none());
            return;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("trace");
        let status = Command::new(env::current_exe().expect("a path"))
            .args(["tests::each_step_is_a_line_until_the_last", "--exact"])
            .envs([(INSIDE, "1".as_ref()), (super::VARIABLE, file.as_os_str())])
            .status();
        assert!(status.expect("started").success());
        let text = fs::read_to_string(file).expect("a trace");
        let tails: Vec<_> = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
        assert_eq!(tails, ["c1 shim a step", "c1 guest the end"]);
    }
}
