//! `containerd-shim-wasmtime-v1`: runs the containers of one Pod, WASI guests as well as Linux programs.
//!
//! containerd executes this binary with an action (containerd, docs/runtime-v2.md): `start` makes a serving process and answers
//! with its address; without an action this process serves; `delete` cleans up after a serving process that died. `-info`
//! describes the runtime, and `-v` prints the version.

#![forbid(unsafe_code)]

use std::process::ExitCode;

mod bootstrap;
mod built_in;
mod compilation;
mod config;
mod container;
mod delete;
mod errors;
mod events;
mod guests;
mod info;
mod lifecycle;
mod oom;
mod options;
mod packed;
mod pod;
mod policy;
mod process;
mod profiles;
mod ready;
mod roots;
mod serve;
mod settings;
mod start;
mod stats;
mod stdio;
mod task;
mod worker;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd includes the stderr of `start` and `delete` in the error that it returns.
            eprintln!("containerd-shim-wasmtime-v1: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let flags = containerd_shim::parse(&args)?;
    if flags.version {
        println!("containerd-shim-wasmtime-v1 {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    if flags.info {
        return info::run(&flags);
    }
    trace::begin(if flags.action.is_empty() { "shim" } else { "action" }, &flags.id);
    match flags.action.as_str() {
        "start" => start::run(&flags),
        "delete" => delete::run(&flags),
        "" => serve::run(&flags),
        serve::ZYGOTE => serve::run_zygote(),
        other => anyhow::bail!(
            "unknown action {other:?}; the actions are start and delete, and none to serve"
        ),
    }
}
