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

/// Signals that end a process by default and may be sent for that purpose, such as an image's `STOPSIGNAL`. The runtime itself
/// handles the signals of processor exceptions.
const ENDING: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGTERM,
];

/// The signals that [`crate::Loaded::run`] waits for. If they are blocked before it is called, none is lost.
pub fn ending() -> SigSet {
    SigSet::from_iter(ENDING)
}

/// Stack size of a thread that only makes system calls.
const THREAD_STACK: usize = 64 << 10;

/// Offset of the exit code of a process that a signal ends, as in shells and containerd.
const SIGNALLED: i32 = 128;

/// Ends the process at the first signal N with 128 + N, whatever the guest does.
///
/// # Errors
/// Those of pthread_create(3).
pub fn end_at_the_first(signals: SigSet) -> io::Result<()> {
    wait_in_thread(move || end_at_the_next(&signals))
}

/// Returns the first signal, for a graceful end. The second signal N ends the process with 128 + N. The caller's event loop waits
/// for the first signal, and must never block. If signalfd(2) fails, for instance behind a filter of system calls, a thread
/// waits instead.
///
/// # Errors
/// Those of pthread_create(3).
pub fn first_signal(signals: SigSet) -> io::Result<oneshot::Receiver<Signal>> {
    let (sender, first) = oneshot::channel();
    let file = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
    if let Ok(file) = file.map_err(io::Error::from).and_then(watched) {
        tokio::spawn(async move {
            if let Ok(signal) = next(&file).await {
                // This must happen before the first signal is reported, because from then on the next one must not be missed.
                let waits = wait_in_thread(move || end_at_the_next(&signals));
                let _ = sender.send(signal);
                // Without a further thread, the event loop waits for the second signal, unless a guest is in an endless loop.
                if waits.is_err()
                    && let Ok(signal) = next(&file).await
                {
                    end_by(signal)
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

/// Blocks SIGPIPE, and the signals that end a guest, which it returns. A guest learns from the error of a write that the reader
/// is gone. This must be called before other threads start, because they inherit the blocked signals.
pub fn block() -> nix::Result<SigSet> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGPIPE);
    signals.thread_block()?;
    ending().thread_block()?;
    Ok(ending())
}

/// Starts a thread that waits, and then ends the process.
fn wait_in_thread(wait: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("signals".into()).stack_size(THREAD_STACK);
    thread.spawn(wait).map(drop)
}

fn end_at_the_next(signals: &SigSet) {
    if let Ok(signal) = signals.wait() {
        end_by(signal)
    }
}

/// Ends the process. What was dropped of its lines is reported first.
fn end_by(signal: Signal) -> ! {
    if log_rate::has_dropped() {
        within_moments(|| log_rate::finish(&stderr::last_lines()));
    }
    std::process::exit(SIGNALLED + signal as i32)
}
