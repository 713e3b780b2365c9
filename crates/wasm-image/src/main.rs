//! `wasm-image` builds, moves and explains OCI images of WebAssembly guests. It is the tool for CI.
//!
//! Read [`args`] for the command line, and [`commands`] for the steps of each command. An image is always a layout on
//! disk ([`store`]) while a command works on it. [`build`] makes an image from files, [`convert`] from an artifact or
//! another image, and [`compose`] makes one component from several. [`transfer`] moves an image from one [`location`] to
//! another, such as a [`registry`]. [`sbom`] lists what is in it. [`inspect`] only reads, [`policy`] compares a
//! Pod with a node's policy, and [`warm`] asks the node.
//! [`componentize`] is independent: it turns a WASI 0.1 core module into a WASI 0.2 component. [`errors`] has the exit
//! codes. [`scratch`] has the temporary files, so that nothing is left when the program is interrupted.
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
mod location;
mod manifest;
mod platform;
mod policy;
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

/// Exit code after ctrl-C, as in shells.
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
    // The thread of an interrupted command may never end by itself.
    runtime.shutdown_background();
    done
}

/// Runs the command on a thread of its own, because it may unpack, hash or wait for a helper for minutes without a
/// break. If it is interrupted, its temporary files are removed.
async fn run(args: Args) -> Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let runtime = Handle::current();
    let tidies = matches!(args.command, Command::Warm(_));
    let mut command = spawn_blocking(move || runtime.block_on(commands::run(args.command)));
    tokio::select! {
        done = &mut command => return done.context("the command panicked")?.map(|()| 0),
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    scratch::clear();
    if tidies && timeout(limits::TIDY_TIME, command).await.is_err() {
        progress::note("cannot remove what was made on the node: containerd does not answer");
    }
    Ok(INTERRUPTED)
}

/// Reads a whole file. The error names it.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| errors::unreadable(path, error))
}
