//! `wasm-image` builds, moves and explains OCI images of WebAssembly guests: the tool of CI.
//!
//! Read [`args`] for what can be asked, and [`commands`] for how each is answered. An image is always a layout on disk
//! ([`store`]) while it is worked on; [`build`] makes one from files, [`convert`] from an artifact or another image, [`compose`] makes one component of several, and [`transfer`]
//! moves it between a [`place`] and another, such as a [`registry`]. [`sbom`] says what is in it. [`inspect`] only reads, [`warm`] asks the node. [`componentize`] stands
//! apart: it turns a WASI 0.1 core module into a WASI 0.2 component. What goes wrong has its exit code in [`errors`];
//! what is temporary is in [`scratch`], so that nothing is left when the program is interrupted.
#![forbid(unsafe_code)]

mod args;
mod build;
mod commands;
mod componentize;
mod compose;
mod composition;
mod config;
mod convert;
mod errors;
mod inspect;
mod limits;
mod manifest;
mod place;
mod platform;
mod progress;
mod registry;
mod sbom;
mod scratch;
mod store;
mod transfer;
mod warm;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use args::{Args, Command};

/// The exit code after ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let args = Args::parse();
    match runtime().and_then(|runtime| block_on(runtime, args)) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            progress::note(&format!("error: {error:#}"));
            ExitCode::from(errors::exit_code(&error))
        }
    }
}

fn runtime() -> Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")
}

fn block_on(runtime: Runtime, args: Args) -> Result<u8> {
    let done = runtime.block_on(run(args));
    // A command that was interrupted may never end by itself.
    runtime.shutdown_background();
    done
}

/// Runs the command on a thread of its own, because it may unpack or hash for minutes, or wait for a helper, without
/// looking up; one that is interrupted takes its temporary files along.
async fn run(args: Args) -> Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let runtime = Handle::current();
    let tidies = matches!(args.command, Command::Warm(_));
    let mut command = spawn_blocking(move || runtime.block_on(commands::run(args.command)));
    tokio::select! {
        done = &mut command => return done.context("the command broke down")?.map(|()| 0),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    scratch::clear();
    if tidies && timeout(limits::TIDY_TIME, command).await.is_err() {
        progress::note("what was made on the node is left behind: containerd does not answer");
    }
    Ok(INTERRUPTED)
}

/// Reads a whole file; the error names it.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| errors::unreadable(path, error))
}
