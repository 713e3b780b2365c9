//! `wasm-image` builds, moves and explains OCI images of WebAssembly guests: the tool of CI.
//!
//! Read [`args`] for what can be asked, and [`commands`] for how each is answered. An image is always a layout on disk
//! ([`store`]) while it is worked on; [`build`] makes one from files, [`convert`] from an artifact, and [`transfer`]
//! moves it between a [`place`] and another, such as a [`registry`]. [`inspect`] only reads. [`componentize`] stands
//! apart: it turns a WASI 0.1 core module into a WASI 0.2 component. What goes wrong has its exit code in [`errors`].
#![forbid(unsafe_code)]

mod args;
mod build;
mod commands;
mod componentize;
mod convert;
mod errors;
mod inspect;
mod limits;
mod place;
mod progress;
mod registry;
mod store;
mod transfer;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use args::Args;

/// The exit code after ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let done = runtime().and_then(|runtime| runtime.block_on(run(Args::parse())));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(errors::exit_code(&error))
        }
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")
}

/// Runs the command; one that is interrupted takes its temporary files along.
async fn run(args: Args) -> Result<u8> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        done = commands::run(args.command) => done.map(|()| 0),
        _ = interrupt.recv() => Ok(INTERRUPTED),
        _ = terminate.recv() => Ok(INTERRUPTED),
    }
}

/// Reads a whole file; the error names it.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
