//! `trace`: shows where the time of a start goes, as a waterfall, and how long the shim's actions take.
//!
//! The shim writes a line for each step ([`step`]) if the environment variable `WASMTIME_SHIM_TRACE` is set, as it is
//! for the containerd of this scenario. The Pods run a command. The measured time begins when the shim receives the
//! request to create its container, and ends with its first instruction.

mod actions;
mod step;
mod waterfall;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tests::containerd::repository;
use tests::{Container, Node, Pod};

use crate::contender::Contender;
use crate::effort::{self, Bench};
use crate::report::{Figure, Reach, Scenario, Section, Table, data};
use crate::serving;
use crate::statistics::Times;
use step::Step;
use waterfall::Start;

/// The scenario.
pub const SCENARIO: Scenario =
    Scenario { name: "trace", title: "Where the time of a start goes", measure };

/// Name of the environment variable, and of the file.
const VARIABLE: &str = "WASMTIME_SHIM_TRACE";

const METHOD: &str = "The times are from Create received to the guest's first instruction, for Pods that run a command. *In \
    the shim alone* leaves\nout the time between the answer to Create and the request to Start. The actions of the shim's \
    binary are timed from exec to\nexit. The waterfalls show the Pods with the median time among those that were started \
    one at a time, alone and beside many\nidle ones. The Pod's pause comes first.";

/// A way to start Pods.
struct Way {
    at_once: usize,
    is_crowded: bool,
}

const WAYS: [Way; 3] = [
    Way { at_once: 1, is_crowded: false },
    Way { at_once: 4, is_crowded: false },
    Way { at_once: 1, is_crowded: true },
];

fn measure(bench: &Bench) -> Result<Section> {
    let file = repository().join("target/start.trace");
    let mut containerd = bench.containerd.clone();
    containerd.environment.push((VARIABLE.into(), file.display().to_string()));
    let node = Node::start(containerd)?;
    // This start compiles what is compiled once.
    start(&node, "first")?;
    let mut table =
        Table::new(&["at a time", "beside", "Pods", "ms", "99 %", "in the shim alone, ms", "99 %"]);
    let (mut waterfalls, mut all, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for Way { at_once, is_crowded } in WAYS {
        let crowd = if is_crowded { bench.effort.crowd } else { 0 };
        println!("  {at_once} at a time, beside {crowd} idle Pods");
        for number in 0..crowd {
            idle.push(serving::start(&node, Contender::Ours, &format!("idle-{number}"))?.0);
        }
        let _ = fs::remove_file(&file);
        let pods = start_some(&node, bench.effort.rounds, at_once, crowd)?;
        let steps = step::read(&file)?;
        let starts = pods.iter().map(|pod| Start::of(&steps, pod)).collect::<Result<Vec<_>>>()?;
        if at_once == 1 {
            waterfalls.push(median(&starts));
        }
        let whole = Times::of(starts.iter().map(Start::whole).collect());
        let own = Times::of(starts.iter().map(Start::own).collect());
        table.row(row(at_once, crowd, starts.len(), whole, own));
        all.push((format!("{at_once} at a time, beside {crowd}"), whole));
    }
    serving::take_away(idle)?;
    effort::end(node);
    let numbers = data(all.iter().map(|(way, whole)| (way.as_str(), whole)))?;
    let figure = |work, unit, most, reached| Figure::new(work, unit, Reach::AtMost(most), reached);
    let (alone, crowded) = (all[0].1.median, all[2].1.median);
    let figures = [
        figure("Create to the first instruction, median", "ms", 4.0, alone),
        figure("the same beside many idle Pods", "× alone", 1.3, crowded / alone),
        figure("the same, 4 at a time, 99 %", "ms", 15.0, all[1].1.p99),
    ];
    let section =
        Section::new(&SCENARIO, METHOD, numbers).table(table).table(actions::time(bench)?);
    Ok(waterfalls.into_iter().fold(section, Section::text).figures(figures))
}

fn row(at_once: usize, crowd: usize, pods: usize, whole: Times, own: Times) -> [String; 7] {
    let p99 = |times: Times| format!("{:.1}", times.p99);
    let [at_once, crowd, pods] = [at_once, crowd, pods].map(|it| it.to_string());
    [at_once, crowd, pods, whole.to_string(), p99(whole), own.to_string(), p99(own)]
}

/// Returns the start with the median time.
fn median(starts: &[Start<'_>]) -> String {
    let mut starts: Vec<_> = starts.iter().collect();
    starts.sort_by(|one, other| one.whole().total_cmp(&other.whole()));
    starts.get(starts.len() / 2).map(ToString::to_string).unwrap_or_default()
}

/// Runs this many Pods, and returns their ids.
fn start_some(node: &Node, count: usize, at_once: usize, crowd: usize) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let names =
            (0..at_once).map(|number| format!("trace-{crowd}-{at_once}-{}-{number}", ids.len()));
        let names: Vec<_> = names.collect();
        ids.extend(serving::at_once(&names, |name| start(node, name))?);
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
