//! Cleans up when a program is interrupted from outside.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::traces::Traces;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What nodes of this program have made or may still make.
static MADE: Mutex<Vec<Traces>> = Mutex::new(Vec::new());

/// Difference between the exit code of a program that a signal ended, and the signal's number.
const SIGNALLED: i32 = 128;

/// As long as this value exists, nothing is cleaned up.
#[derive(Debug)]
pub struct Making(MutexGuard<'static, Vec<Traces>>);

/// Must be called before something is made that must not stay. Does not return once the program is ending.
pub fn making() -> Making {
    Making(MADE.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Making {
    /// From now on, these traces are cleaned up.
    pub fn note(mut self, traces: &Traces) {
        self.0.push(traces.clone());
    }
}

/// Handles ctrl-C and SIGTERM, which `timeout` and supervisors send: ends the program and removes everything that its
/// nodes have made. Must be called once.
pub fn clean_up() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
    let signals = (signal(interrupt)?, signal(terminate)?);
    drop(entered);
    thread::spawn(move || {
        let kind = runtime.block_on(first(signals));
        INTERRUPTED.store(true, Ordering::Relaxed);
        // eprintln would panic if the output is no longer read.
        let _ = writeln!(std::io::stderr(), "\ncleaning up ...");
        // This is held to the end, so that no further node is started.
        let made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        // The others were found to have left nothing when they ended.
        let left: Vec<&Traces> = made.iter().filter(|traces| traces.is_there()).collect();
        left.iter().for_each(|traces| traces.wipe());
        // A thread may have made more before it noticed that containerd is gone.
        left.iter().for_each(|traces| traces.wipe());
        std::process::exit(SIGNALLED + kind.as_raw_value());
    });
    Ok(())
}

/// Returns the signal that comes first, interrupt or terminate.
async fn first((mut interrupt, mut terminate): (Signal, Signal)) -> SignalKind {
    tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
    }
}

/// Returns the exit code of a program that ended by itself, and prints its error.
pub fn end(result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    while INTERRUPTED.load(Ordering::Relaxed) {
        // The error comes from the clean-up, which ends the program.
        thread::park();
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
