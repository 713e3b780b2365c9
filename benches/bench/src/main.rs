//! Contenders side by side, in one run on one containerd: this project's shim, runc's, the peer, and the floor.
//!
//! What they do is checked every time; a run that failed is no fast one. `docs/benchmarks.md` and `.json` are written
//! from what came out.
#![forbid(unsafe_code)]

mod contender;
mod density;
mod pod;
mod report;
mod run;
mod statistics;

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tests::containerd::Containerd;
use tests::{Node, interrupt};

use crate::report::Report;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Runs and Pods of each contender.
    pub rounds: usize,
    /// Idle Pods at once.
    pub pods: &'static [usize],
}

const QUICK: Effort = Effort { rounds: 10, pods: &[1, 10] };
const FULL: Effort = Effort { rounds: 40, pods: &[1, 10, 50, 100] };

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    interrupt::end(match words.join(" ").as_str() {
        "" => bench(FULL),
        "quick" => bench(QUICK),
        _ => Err(anyhow::anyhow!("usage: bench [quick]")),
    })
}

fn bench(effort: Effort) -> Result<()> {
    let missing: Vec<_> = contender::programs().filter(|(_, path)| path.is_none()).collect();
    if !missing.is_empty() {
        let names: Vec<_> = missing.into_iter().map(|(name, _)| name).collect();
        bail!("not in PATH: {}; `make bench` builds them", names.join(", "));
    }
    let mut containerd = Containerd::available()?.pop().context("there is no containerd")?;
    containerd.handlers = vec!["peer".into()];
    println!("starting a private containerd {}", containerd.version);
    let node = Node::start(containerd)?;
    interrupt::clean_up(node.traces.clone())?;
    let mut report = Report::new(&node, effort)?;
    report.runs = run::measure(&node, effort)?;
    report.pods = pod::measure(&node, effort)?;
    report.density = density::measure(&node, effort)?;
    node.stop()?;
    report.write()
}
