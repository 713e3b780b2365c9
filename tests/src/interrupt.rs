//! What ends a program from outside, for those that have made something which must not stay.

use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::traces::Traces;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What nodes of this program have left, or may leave yet.
static MADE: Mutex<Vec<Traces>> = Mutex::new(Vec::new());

/// The exit code of a program that a signal has ended is so much more than the signal.
const SIGNALLED: i32 = 128;

/// Nothing is cleaned up as long as this value is there.
#[derive(Debug)]
pub struct Making(MutexGuard<'static, Vec<Traces>>);

/// To be called before something is made that must not stay. Does not return once the program is being ended.
pub fn making() -> Making {
    Making(MADE.lock().unwrap_or_else(PoisonError::into_inner))
}

impl Making {
    /// From now on these are cleaned up.
    pub fn note(mut self, traces: &Traces) {
        self.0.push(traces.clone());
    }
}

/// Ends the program with everything its nodes have made, when it is asked to: by ctrl-C, or as `timeout` and
/// supervisors do. To be called once.
pub fn clean_up() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
    let signals = (signal(interrupt)?, signal(terminate)?);
    drop(entered);
    thread::spawn(move || {
        let kind = runtime.block_on(first(signals));
        INTERRUPTED.store(true, Ordering::Relaxed);
        // Not by eprintln, which panics where nobody reads any more.
        let _ = writeln!(std::io::stderr(), "\ncleaning up ...");
        // Held to the end, so that no further node is begun.
        let made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        // Of the others nothing was left when they ended.
        let left: Vec<&Traces> = made.iter().filter(|traces| traces.is_there()).collect();
        left.iter().for_each(|traces| traces.wipe());
        // Whoever was at work may have made more before it noticed that containerd is gone.
        left.iter().for_each(|traces| traces.wipe());
        std::process::exit(SIGNALLED + kind.as_raw_value());
    });
    Ok(())
}

/// The one that comes first, interrupt or terminate.
async fn first((mut interrupt, mut terminate): (Signal, Signal)) -> SignalKind {
    tokio::select! {
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
    }
}

/// The exit code of a program that ended by itself, with its error on standard error.
pub fn end(result: Result<()>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    while INTERRUPTED.load(Ordering::Relaxed) {
        // What failed did so because everything is being cleaned up; that ends the program.
        thread::park();
    }
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}
