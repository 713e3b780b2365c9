//! Runs critest, Kubernetes' tests of CRI, with runc's shim and with this one on the same containerd, and writes
//! `docs/conformance.md` from what came out.
#![forbid(unsafe_code)]

mod images;
mod report;
mod run;
mod shared_memory;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use tests::containerd::Containerd;
use tests::registry::Registry;
use tests::{Node, interrupt};

use crate::report::State;
use crate::shared_memory::Segments;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            while interrupt::is_under_way() {
                // What failed did so because everything is being cleaned up; that ends the program.
                std::thread::park();
            }
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let containerd = Containerd::available()?.pop().context("there is no containerd")?;
    println!("starting a private containerd {}", containerd.version);
    let node = Node::start(containerd)?;
    interrupt::clean_up(node.traces.clone())?;
    let registry = Registry::start(&node, "_default")?;
    images::push(&node, &registry)?;
    let before = Segments::find()?;
    let filters: Vec<_> = env::args().skip(1).map(|name| format!("--focus={name}")).collect();
    for handler in ["runc", "wasmtime"] {
        let start = Instant::now();
        let outcomes = run::with_handler(&node, handler, &filters);
        before.remove_new()?;
        let outcomes = outcomes?;
        let count = |state| outcomes.iter().filter(|it| it.state == state).count();
        println!(
            "{handler}: {} passed, {} failed, {} skipped, {} s",
            count(State::Passed),
            count(State::Failed),
            count(State::Skipped),
            start.elapsed().as_secs()
        );
    }
    drop(registry);
    node.traces.watch_logged();
    node.stop()
}
