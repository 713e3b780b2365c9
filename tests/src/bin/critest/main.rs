//! Runs critest, Kubernetes' tests of CRI, with runc's shim and with this one on the same containerd, and writes
//! `docs/conformance.md` from the results.
#![forbid(unsafe_code)]

mod document;
mod images;
mod reasons;
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

use crate::reasons::LEFT_OUT;
use crate::report::{Outcome, State};
use crate::shared_memory::Segments;

fn main() -> ExitCode {
    interrupt::end(run())
}

/// Runs the tests. With an argument, it only runs the tests whose names match, and writes nothing.
fn run() -> Result<()> {
    let focus: Vec<_> = env::args().skip(1).map(|name| format!("--focus={name}")).collect();
    let left_out = LEFT_OUT.iter().map(|left| format!("--skip={}", left.name));
    let filters: Vec<_> = focus.iter().cloned().chain(left_out).collect();
    let containerd = Containerd::available()?.pop().context("there is no containerd")?;
    println!("starting a private containerd {}", containerd.version);
    interrupt::clean_up()?;
    let node = Node::start(containerd)?;
    let registry = Registry::start(&node, "_default")?;
    images::push(&node, &registry)?;
    let runc = run_with("runc", &node, &filters)?;
    let wasmtime = run_with("wasmtime", &node, &filters)?;
    if focus.is_empty() {
        document::write(&node.containerd, &runc, &wasmtime)?;
    }
    drop(registry);
    node.traces.watch_logged();
    node.stop()
}

fn run_with(handler: &str, node: &Node, filters: &[String]) -> Result<Vec<Outcome>> {
    let (start, before) = (Instant::now(), Segments::find()?);
    let outcomes = run::with_handler(node, handler, filters);
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
    Ok(outcomes)
}
