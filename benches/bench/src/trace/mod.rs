//! `bench trace`: where the time of a start goes, as a waterfall, and how long the shim's actions take.
//!
//! The shim tells it by the environment variable `WASMTIME_SHIM_TRACE`, which its containerd is given here: a line for
//! each step ([`step`]). The Pods run a command; what is added up is from the request to create its container, which
//! the shim has received, to its first instruction.

mod actions;
mod step;
mod waterfall;

use std::fs;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use tests::containerd::repository;
use tests::{Container, Node, Pod};

use crate::effort::{self, Bench};
use crate::report::Table;
use crate::statistics::Times;
use step::Step;
use waterfall::Start;

/// The environment variable, and the file's name.
const VARIABLE: &str = "WASMTIME_SHIM_TRACE";

const TABLES: &str = "From Create received to the guest's first instruction; the shim alone is without the time in \
    which it had\nanswered Create and was not yet asked to Start.\n\n";

/// How many Pods are started at a time.
const AT_ONCE: [usize; 2] = [1, 4];

/// Prints all of it.
pub fn print(bench: &Bench) -> Result<()> {
    let file = repository().join("target/start.trace");
    let mut containerd = bench.containerd.clone();
    containerd.environment.push((VARIABLE.into(), file.display().to_string()));
    let node = Node::start(containerd)?;
    // What is compiled once, is compiled here.
    start(&node, "first")?;
    let mut table =
        Table::new(&["at a time", "Pods", "ms", "99 %", "in the shim alone, ms", "99 %"]);
    for at_once in AT_ONCE {
        let _ = fs::remove_file(&file);
        let pods = start_some(&node, bench.effort.rounds, at_once)?;
        let steps = step::read(&file)?;
        let starts = pods.iter().map(|pod| Start::of(&steps, pod)).collect::<Result<Vec<_>>>()?;
        if at_once == 1 {
            print_median(&starts);
        }
        table.row(row(at_once, &starts));
    }
    effort::end(node);
    println!("{TABLES}{table}");
    println!("The actions of the shim's binary, from exec to exit:\n\n{}", actions::time(bench)?);
    Ok(())
}

fn row(at_once: usize, starts: &[Start<'_>]) -> [String; 6] {
    let whole = Times::of(starts.iter().map(Start::whole).collect());
    let own = Times::of(starts.iter().map(Start::own).collect());
    let p99 = |times: Times| format!("{:.1}", times.p99);
    let (at_once, pods) = (at_once.to_string(), starts.len().to_string());
    [at_once, pods, whole.to_string(), p99(whole), own.to_string(), p99(own)]
}

/// The start that took as long as half of them did not.
fn print_median(starts: &[Start<'_>]) {
    let mut starts: Vec<_> = starts.iter().collect();
    starts.sort_by(|one, other| one.whole().total_cmp(&other.whole()));
    if let Some(start) = starts.get(starts.len() / 2) {
        println!("\n{start}");
    }
}

/// Runs so many Pods, and returns their ids.
fn start_some(node: &Node, count: usize, at_once: usize) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let names = (0..at_once).map(|number| format!("trace-{at_once}-{}-{number}", ids.len()));
        let names: Vec<_> = names.collect();
        let started = thread::scope(|scope| {
            let threads: Vec<_> =
                names.iter().map(|name| scope.spawn(move || start(node, name))).collect();
            let panicked = |_| anyhow!("a thread has panicked");
            threads.into_iter().map(|it| it.join().map_err(panicked)?).collect::<Result<Vec<_>>>()
        });
        ids.extend(started?);
    }
    Ok(ids)
}

fn start(node: &Node, name: &str) -> Result<String> {
    let pod = node.run_pod(&Pod::new(name))?;
    let container = pod.run(&Container::new("hello", &node.image("hello-layer")?))?;
    let exit = container.wait()?;
    ensure!(exit.code == 0, "{name}: {exit:?}");
    container.wait_for_output("hello from wasi")?;
    pod.stop()?;
    pod.remove_in_the_end()?;
    Ok(pod.id)
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path)
        .with_context(|| format!("{}: does the shim know {VARIABLE}?", path.display()))
}
