//! Ctrl-C, for programs that have made something which must not stay.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;

use crate::traces::Traces;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// The exit code of a program that was interrupted (128 + SIGINT).
const EXIT_CODE: i32 = 130;

/// Ends the program with everything it has made, when the terminal asks for it.
pub fn clean_up(traces: Traces) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            INTERRUPTED.store(true, Ordering::Relaxed);
            eprintln!("\ncleaning up ...");
            traces.wipe();
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
