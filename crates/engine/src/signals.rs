//! SIGTERM and SIGINT, for a process that may be the first of its pid namespace.
//!
//! The kernel sends such a process no signal that it neither blocks nor handles (pid_namespaces(7)), so the
//! default action would be none, and a Pod would end only with SIGKILL after its grace period.

use nix::sys::signal::{SigSet, Signal};

/// Ends the process with 128 + N as soon as signal N is sent, whatever the guest is doing: it may be in a
/// loop that never comes back. Call before other threads are started: they must inherit the blocked signals.
pub fn end_at_once() -> nix::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    // The thread lives as long as the process, which it ends.
    let waiting = std::thread::Builder::new().name("signals".into()).stack_size(THREAD_STACK);
    let spawned = waiting.spawn(move || {
        if let Ok(signal) = signals.wait() {
            std::process::exit(128 + signal as i32)
        }
    });
    spawned.map(drop).map_err(|_| nix::Error::EAGAIN)
}

/// It waits for one system call.
const THREAD_STACK: usize = 64 << 10;
