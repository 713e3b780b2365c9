//! The signals that end a guest, for a process that may be the first of its pid namespace.
//!
//! The kernel sends such a process only signals that it blocks or handles (pid_namespaces(7)). So signals would have no
//! default action, and a Pod would end only with SIGKILL after its grace period. A separate thread waits for the
//! signals, because a guest in an endless loop occupies every other thread of the runtime.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::time_limit::within_moments;
use crate::{log_rate, stderr};

/// What ends a process by default and may be sent to end one on purpose: an image's `STOPSIGNAL`, a user's
/// `kill`. Not among them are those of a processor's exceptions, which the runtime handles itself.
const ENDING: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
];

/// The signals that [`crate::Loaded::run`] takes. Blocked before it is called, none is lost.
pub fn ending() -> SigSet {
    SigSet::from_iter(ENDING)
}

/// The stack of a thread that does system calls alone.
const THREAD_STACK: usize = 64 << 10;

/// The end of a process by signal N, as shells and containerd have it.
const SIGNALLED: i32 = 128;

/// From now on the first signal N ends the process with 128 + N, whatever the guest is doing.
///
/// # Errors
/// Of pthread_create(3).
pub fn end_at_the_first(signals: SigSet) -> io::Result<()> {
    wait_in_thread(move || end_at_the_next(&signals))
}

/// The first signal from now on, for a graceful end; the second, N, ends the process with 128 + N. The event loop
/// that this is called in waits for the first one, and must never block. Without signalfd(2), as behind a filter of system
/// calls, a thread does.
///
/// # Errors
/// Of pthread_create(3).
pub fn first_signal(signals: SigSet) -> io::Result<oneshot::Receiver<Signal>> {
    let (sender, first) = oneshot::channel();
    let file = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
    if let Ok(file) = file.map_err(io::Error::from).and_then(watched) {
        tokio::spawn(async move {
            if let Ok(signal) = next(&file).await {
                // Before the first is sent on: from then on the next one must not be missed.
                let waits = wait_in_thread(move || end_at_the_next(&signals));
                let _ = sender.send(signal);
                // No further thread may be allowed; here it is seen unless a guest never gives way.
                if waits.is_err()
                    && let Ok(signal) = next(&file).await
                {
                    std::process::exit(SIGNALLED + signal as i32)
                }
            }
        });
        return Ok(first);
    }
    wait_in_thread(move || {
        if let Ok(signal) = signals.wait() {
            let _ = sender.send(signal);
            end_at_the_next(&signals);
        }
    })?;
    Ok(first)
}

fn watched(file: SignalFd) -> io::Result<AsyncFd<SignalFd>> {
    #[expect(
        deprecated,
        reason = "unsound for types that give another descriptor later; SignalFd does not"
    )]
    AsyncFd::new(file)
}

async fn next(file: &AsyncFd<SignalFd>) -> io::Result<Signal> {
    loop {
        let mut ready = file.readable().await?;
        match file.get_ref().read_signal()? {
            Some(read) => return Ok(Signal::try_from(read.ssi_signo.cast_signed())?),
            None => ready.clear_ready(),
        }
    }
}

/// Blocks the signals waited for, which it returns, and SIGPIPE: a guest learns from its
/// write's error that a reader went away. To be called before other threads are started: they inherit what is blocked.
pub fn block() -> nix::Result<SigSet> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGPIPE);
    signals.thread_block()?;
    ending().thread_block()?;
    Ok(ending())
}

/// The thread lives as long as the process, which it ends.
fn wait_in_thread(wait: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("signals".into()).stack_size(THREAD_STACK);
    thread.spawn(wait).map(drop)
}

fn end_at_the_next(signals: &SigSet) {
    if let Ok(signal) = signals.wait() {
        if log_rate::has_dropped() {
            within_moments(|| log_rate::finish(&stderr::last_lines()));
        }
        std::process::exit(SIGNALLED + signal as i32)
    }
}
