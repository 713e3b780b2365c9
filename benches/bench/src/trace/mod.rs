//! `trace`: shows where the time of a start goes, as a waterfall, and how long the shim's actions take.
//!
//! The shim writes a line for each step ([`step`]) if the environment variable `WASMTIME_SHIM_TRACE` is set, as it is
//! for the containerd of this scenario. The Pods run a command. The measured time begins when the shim receives the
//! request to create its container, and ends with its first instruction.

mod actions;
mod step;
mod waterfall;

use std::fmt;
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

/// Steps by which a guest is restricted to what it is granted, and its process to the system calls that it needs.
const GRANTS: [&str; 3] = ["grants", "restrict system calls", "seal executable memory"];

const METHOD: &str = "The times are from Create received to the guest's first instruction, for Pods that run a command. *In \
    the shim alone* leaves\nout the time between the answer to Create and the request to Start. The actions of the shim's \
    binary are timed from exec to\nexit. The waterfalls show the Pods with the median time among those that were started \
    one at a time, alone and beside many\nidle ones. The Pod's pause comes first.";

/// A way to start Pods.
struct Way {
    at_once: usize,
    /// Idle Pods beside them.
    crowd: usize,
}

/// Times of the Pods that were started in one way.
struct Found {
    way: Way,
    whole: Times,
    own: Times,
    grants: Times,
}

fn measure(bench: &Bench) -> Result<Section> {
    let [some, many] = bench.effort.crowds;
    let ways = [(1, 0), (4, 0), (1, some), (1, many)];
    let ways = ways.map(|(at_once, crowd)| Way { at_once, crowd });
    let (ours, waterfalls) = started(bench, Contender::Ours, ways)?;
    let before = Contender::before().map(|who| started(bench, who, [Way { at_once: 1, crowd: 0 }]));
    let before = before.transpose()?.map(|(found, _)| found);
    let mut table = Table::new(&[
        "who",
        "at a time",
        "beside",
        "Pods",
        "ms",
        "99 %",
        "in the shim alone, ms",
        "99 %",
    ]);
    let all = [(Contender::Ours, Some(&ours)), (Contender::Before, before.as_ref())];
    for (who, found) in all {
        found.into_iter().flatten().for_each(|found| table.row(found.row(who)));
    }
    let names = ours.iter().map(|found| found.way.to_string()).collect::<Vec<_>>();
    let numbers = data(names.iter().map(String::as_str).zip(ours.iter().map(|it| it.whole)))?;
    let section =
        Section::new(&SCENARIO, METHOD, numbers).table(table).table(actions::time(bench)?);
    let section = waterfalls.into_iter().fold(section, Section::text);
    Ok(section.figures(figures(&ours, before.as_deref())))
}

fn figures(ours: &[Found], before: Option<&[Found]>) -> Vec<Figure> {
    let [alone, four, some, many] = ours else { return Vec::new() };
    let figure =
        |work: &str, unit, most, reached| Figure::new(work, unit, Reach::AtMost(most), reached);
    let median = "Create to the first instruction, median";
    let beside = |found: &Found| format!("the same beside {} idle Pods", found.way.crowd);
    let own = format!("{}, in the shim alone", beside(many));
    let against = before.into_iter().flatten().next();
    let against = against.map(|before| alone.whole.median / before.whole.median);
    let mut figures = vec![
        figure(median, "ms", 4.0, alone.whole.median),
        figure(&beside(some), "× alone", 1.3, some.whole.median / alone.whole.median),
        figure(&own, "× alone", 1.3, many.own.median / alone.own.median),
        figure("the same, 4 at a time, 99 %", "ms", 15.0, four.whole.p99),
        figure("of it, grants and filters of system calls, median", "ms", 0.3, alone.grants.median),
    ];
    figures.extend(against.map(|reached| figure(median, "× before", 0.3, reached)));
    figures
}

impl Found {
    fn row(&self, who: Contender) -> [String; 8] {
        let p99 = |times: Times| format!("{:.1}", times.p99);
        let Found { way: Way { at_once, crowd }, whole, own, .. } = self;
        let [at_once, crowd, pods] = [*at_once, *crowd, whole.count].map(|it| it.to_string());
        let (own, own_p99) = (own.to_string(), p99(*own));
        [who.name().into(), at_once, crowd, pods, whole.to_string(), p99(*whole), own, own_p99]
    }
}

impl fmt::Display for Way {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} at a time, beside {}", self.at_once, self.crowd)
    }
}

/// Starts Pods in each of these ways, on a node of their own. Also returns the waterfalls of the ways that start one Pod at
/// a time.
fn started(
    bench: &Bench,
    who: Contender,
    ways: impl IntoIterator<Item = Way>,
) -> Result<(Vec<Found>, Vec<String>)> {
    let file = repository().join("target/start.trace");
    let mut containerd = bench.containerd.clone();
    containerd.environment.push((VARIABLE.into(), file.display().to_string()));
    let node = Node::start(containerd)?;
    // This start compiles what is compiled once.
    start(&node, who, "first")?;
    let (mut all, mut waterfalls, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for way in ways {
        println!("  {}, {way} idle Pods", who.name());
        while idle.len() < way.crowd {
            idle.push(serving::start(&node, who, &format!("idle-{}", idle.len()))?.0);
        }
        let _ = fs::remove_file(&file);
        let pods = start_some(&node, who, bench.effort.rounds, &way)?;
        let steps = step::read(&file)?;
        let starts = pods.iter().map(|pod| Start::of(&steps, pod)).collect::<Result<Vec<_>>>()?;
        if way.at_once == 1 {
            waterfalls.push(median(&starts));
        }
        let whole = Times::of(starts.iter().map(Start::whole).collect());
        let own = Times::of(starts.iter().map(Start::own).collect());
        let grants = Times::of(starts.iter().map(|start| start.of_steps(&GRANTS)).collect());
        all.push(Found { way, whole, own, grants });
    }
    serving::take_away(idle)?;
    effort::end(node);
    Ok((all, waterfalls))
}

/// Returns the start with the median time.
fn median(starts: &[Start<'_>]) -> String {
    let mut starts: Vec<_> = starts.iter().collect();
    starts.sort_by(|one, other| one.whole().total_cmp(&other.whole()));
    starts.get(starts.len() / 2).map(ToString::to_string).unwrap_or_default()
}

/// Runs this many Pods, and returns their ids.
fn start_some(
    node: &Node,
    who: Contender,
    count: usize,
    Way { at_once, crowd }: &Way,
) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let names =
            (0..*at_once).map(|number| format!("trace-{crowd}-{at_once}-{}-{number}", ids.len()));
        let names: Vec<_> = names.collect();
        ids.extend(serving::at_once(&names, |name| start(node, who, name))?);
    }
    Ok(ids)
}

fn start(node: &Node, who: Contender, name: &str) -> Result<String> {
    let pod = node.run_pod(&Pod::new(name).handler(who.handler()))?;
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
