//! `node-installer` puts the shim on a node: it installs the binary, and adds the handler to containerd's
//! configuration.
//!
//! Read in this order: [`args`] is the command line; [`node`] and [`distribution`] find out about the node; [`config`]
//! plans the new configuration and writes nothing; [`target`] has all files that must be written; [`install`] and
//! [`uninstall`] write them with [`files`], and [`record`] keeps how to undo that; [`containerd`] and [`cri`] ask the
//! node's containerd, and [`restart`] restarts it. [`daemon`] and [`cluster`] are for the chart's DaemonSet.
#![forbid(unsafe_code)]

mod args;
mod cluster;
mod config;
mod containerd;
mod cri;
mod daemon;
mod distribution;
mod environment;
mod errors;
mod files;
mod host;
mod install;
mod node;
mod record;
mod restart;
mod run;
mod shim;
mod status;
mod target;
mod tree;
mod uninstall;
mod version;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};

use args::{Args, Command, Install};
use daemon::Daemon;
use shim::Shim;

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("node-installer: {error:#}");
            ExitCode::from(errors::exit_code(&error))
        }
    }
}

fn run(command: Command) -> Result<u8> {
    match command {
        Command::Install(options) => {
            let shim = Shim::read(&source(&options)?)?;
            let daemon = Daemon::prepare(&options.daemon)?;
            enter(options.node.host)?;
            install::run(&options, &shim)?;
            daemon.label(true)?;
            Ok(0)
        }
        Command::Uninstall(options) => {
            let daemon = Daemon::prepare(&options.daemon)?;
            enter(options.node.host)?;
            // Remove the label first, so that no Pod is sent here any more.
            daemon.label(false)?;
            uninstall::run(&options)?;
            Ok(0)
        }
        Command::Status(options) => {
            enter(options.node.host)?;
            status::run(&options)
        }
        Command::Retire(options) => cluster::retire(&options).map(|()| 0),
        Command::Stay => daemon::stay().map(|()| 0),
        Command::Pages(pages) => {
            pages.write(Args::command())?;
            Ok(0)
        }
    }
}

fn enter(process: Option<u32>) -> Result<()> {
    process.map_or(Ok(()), host::enter)
}

/// Returns the path of the shim to install.
fn source(options: &Install) -> Result<PathBuf> {
    if let Some(path) = &options.shim {
        return Ok(path.clone());
    }
    let program = std::env::current_exe()
        .context("cannot find the shim beside this program; name it with --shim")?;
    Ok(program.with_file_name(shim::NAME))
}
