//! `docs/benchmarks.md`, and the same as JSON beside it.

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use serde::Serialize;
use tests::containerd::repository;
use tests::{Node, command};

use crate::Effort;
use crate::density::Density;
use crate::pod::Pods;
use crate::run::Runs;
use crate::statistics::Times;

/// Whose figures the others are divided by.
const PEER: &str = "peer";

/// What was measured, where and with what.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: String,
    containerd: String,
    rounds: usize,
    /// `ctr run`.
    pub runs: Vec<Runs>,
    /// Pods to their first answer.
    pub pods: Vec<Pods>,
    /// Idle Pods.
    pub density: Vec<Density>,
}

impl Report {
    /// An empty one.
    pub fn new(node: &Node, effort: Effort) -> Result<Report> {
        let kernel = command::run("uname", ["-srm"])?.success()?.stdout;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Report {
            machine: format!("{}, {processors} processors", kernel.trim()),
            containerd: node.containerd.version.clone(),
            rounds: effort.rounds,
            runs: Vec::new(),
            pods: Vec::new(),
            density: Vec::new(),
        })
    }

    /// Writes both files, and prints the text.
    pub fn write(&self) -> Result<()> {
        let folder = repository().join("docs");
        let text = self.text()?;
        fs::write(folder.join("benchmarks.json"), serde_json::to_string_pretty(self)? + "\n")?;
        fs::write(folder.join("benchmarks.md"), &text)?;
        println!("\n{text}");
        Ok(())
    }

    fn text(&self) -> Result<String> {
        let mut text =
            String::from("# Benchmarks\n\nWritten by `make bench`; not to be edited.\n\n");
        writeln!(
            text,
            "Machine: {}. containerd {}. {} rounds, the contenders in turn,",
            self.machine, self.containerd, self.rounds
        )?;
        text += "the first round not counted; medians, with the tenth and the ninetieth percentile. The *peer* is a shim on the\n\
            crate `containerd-shim-wasm` with the same Wasmtime; *runc* runs static native programs; the *floor* answers\n\
            every call at once and runs nothing. Times are of this machine; what can be compared are the ratios.\n\n";
        text += "## `ctr run --rm`, to its end\n\n| who | what | ms | of the peer's |\n|---|---|---|---|\n";
        for run in &self.runs {
            let peer = self.runs.iter().find(|run| run.contender == PEER);
            line(&mut text, &[run.contender, run.what], run.times, peer.map(|run| run.times))?;
        }
        text += "\n## A Pod, from RunPodSandbox to the first HTTP 200\n\n| who | ms | of the peer's |\n|---|---|---|\n";
        for pods in &self.pods {
            let peer = self.pods.iter().find(|pods| pods.contender == PEER);
            line(&mut text, &[pods.contender], pods.times, peer.map(|pods| pods.times))?;
        }
        text += "\n## An idle HTTP Pod that has answered once\n\n\
            | Pods | who | PSS, MiB | node's memory, MiB | processes | threads | start of the last, ms |\n\
            |---|---|---|---|---|---|---|\n";
        for it in &self.density {
            writeln!(
                text,
                "| {} | {} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} |",
                it.pods,
                it.contender,
                it.pss / 1024.0,
                it.available / 1024.0,
                it.processes,
                it.threads,
                it.last_start
            )?;
        }
        Ok(text)
    }
}

fn line(text: &mut String, names: &[&str], times: Times, peer: Option<Times>) -> Result<()> {
    let ratio = peer.map(|peer| format!("{:.2}", times.median / peer.median)).unwrap_or_default();
    let Times { median, low, high, .. } = times;
    writeln!(text, "| {} | {median:.1} ({low:.1}–{high:.1}) | {ratio} |", names.join(" | "))?;
    Ok(())
}
