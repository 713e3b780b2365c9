//! Ctrl-C, for programs that have made something which must not stay.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::Result;

use crate::traces::Traces;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// What nodes of this program have left, or may leave yet.
static MADE: Mutex<Vec<Traces>> = Mutex::new(Vec::new());

/// The exit code of a program that was interrupted (128 + SIGINT).
const EXIT_CODE: i32 = 130;

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

/// Ends the program with everything its nodes have made, when the terminal asks for it. To be called once.
pub fn clean_up() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            INTERRUPTED.store(true, Ordering::Relaxed);
            eprintln!("\ncleaning up ...");
            // Held to the end, so that no further node is begun.
            let made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
            made.iter().for_each(Traces::wipe);
            // Whoever was at work may have made more before it noticed that containerd is gone.
            made.iter().for_each(Traces::wipe);
            std::process::exit(EXIT_CODE);
        }
    });
    Ok(())
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
