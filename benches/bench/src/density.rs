//! `density`: measures what idle HTTP Pods occupy after one answer, and how long the next one takes to start.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tests::processes::{self, Process, machine_memory};
use tests::{Node, RunningPod};

use crate::contender::Contender;
use crate::effort::{self, Bench, Effort};
use crate::report::machine::MB;
use crate::report::{Figure, Plot, Reach, Scenario, Section, Table, data};
use crate::serving;
use crate::statistics::Times;

/// The scenario.
pub const SCENARIO: Scenario =
    Scenario { name: "density", title: "Idle HTTP Pods that have answered once", measure };

/// Time after which everything that a start causes has ended.
const SETTLES: Duration = Duration::from_secs(3);

/// Number of Pods at which memory is compared. If there are fewer, it is the largest number.
const COMPARED: usize = 200;

/// The results of one contender with a number of Pods. All but that number are for one Pod.
#[derive(Debug, Serialize)]
struct Density {
    pods: usize,
    /// Proportional set size of all its processes, in KiB.
    pss: f64,
    /// Decrease of the node's available memory, in KiB.
    available: f64,
    processes: f64,
    threads: f64,
    descriptors: f64,
    /// Time of further Pods until their first answer, in milliseconds.
    next: Times,
    kinds: BTreeMap<String, Kind>,
}

/// Processes of the same name, per Pod.
#[derive(Debug, Default, Serialize)]
pub struct Kind {
    processes: f64,
    /// Proportional set size, in KiB.
    pub pss: f64,
    /// Private memory, in KiB.
    pub private: f64,
    threads: f64,
    descriptors: f64,
}

/// Measures one contender after the other, each on a node of its own.
fn measure(bench: &Bench) -> Result<Section> {
    let mut all = Vec::new();
    for who in Contender::real() {
        let node = bench.node()?;
        all.push((who, grow(&node, who, bench.effort)?));
        effort::end(node);
    }
    let method = "Each contender has a node of its own, on which a growing number of Pods is started through CRI. *PSS* \
        divides a page\nthat several processes share among them. *Node's memory* is the decrease of MemAvailable, which \
        includes what the kernel\nand containerd keep for a Pod. All values are per Pod. *Next* is the time of a further \
        Pod until its first answer.";
    let numbers = data(all.iter().map(|(who, densities)| (who.name(), densities)))?;
    let section = Section::new(&SCENARIO, method, numbers).table(table(&all)).table(kinds(&all));
    let section = plots(&all).into_iter().fold(section, Section::plot);
    Ok(section.figures(figures(&all)))
}

fn grow(node: &Node, who: Contender, effort: Effort) -> Result<Vec<Density>> {
    // The first Pod brings what every Pod needs, so it runs before anything is counted.
    serving::take_away(vec![serving::start(node, who, "first")?.0])?;
    thread::sleep(SETTLES);
    let before = machine_memory("MemAvailable")? as f64;
    let (mut pods, mut found) = (Vec::new(), Vec::new());
    for count in effort.pods {
        println!("  {count} Pods of {}", who.name());
        while pods.len() < *count {
            pods.push(serving::start(node, who, &format!("idle-{}", pods.len()))?.0);
        }
        thread::sleep(SETTLES);
        let occupied = before - machine_memory("MemAvailable")? as f64;
        let kinds = by_kind(&pods)?;
        found.push(density(*count, occupied / *count as f64, kinds, next(node, who, effort)?));
    }
    serving::take_away(pods)?;
    Ok(found)
}

fn next(node: &Node, who: Contender, effort: Effort) -> Result<Times> {
    let one = |number| {
        let (pod, time) = serving::start(node, who, &format!("next-{number}"))?;
        serving::take_away(vec![pod])?;
        Ok(time)
    };
    Ok(Times::of((0..effort.next).map(one).collect::<Result<_>>()?))
}

/// Returns the Pods' processes by their names.
pub fn by_kind(pods: &[RunningPod<'_>]) -> Result<BTreeMap<String, Kind>> {
    let all = processes::all();
    let mut kinds = BTreeMap::<String, Kind>::new();
    for pod in pods {
        let shim = processes::shim_among(&all, &pod.id)?;
        for process in processes::family_among(&all, &shim) {
            let name = if process.pid == shim.pid { "shim" } else { &process.name };
            kinds.entry(name.into()).or_default().add(&process)?;
        }
    }
    kinds.values_mut().for_each(|kind| kind.share(pods.len() as f64));
    Ok(kinds)
}

impl Kind {
    fn add(&mut self, process: &Process) -> Result<()> {
        let memory = process.memory()?;
        self.processes += 1.0;
        self.pss += memory.pss as f64;
        self.private += memory.private as f64;
        self.threads += process.threads()? as f64;
        self.descriptors += process.descriptors()? as f64;
        Ok(())
    }

    /// Divides the sum of all Pods to get the value of one.
    fn share(&mut self, pods: f64) {
        let Kind { processes, pss, private, threads, descriptors } = self;
        for number in [processes, pss, private, threads, descriptors] {
            *number /= pods;
        }
    }
}

fn density(pods: usize, available: f64, kinds: BTreeMap<String, Kind>, next: Times) -> Density {
    let sum = |of: fn(&Kind) -> f64| kinds.values().map(of).sum();
    Density {
        pods,
        available,
        next,
        pss: sum(|kind| kind.pss),
        processes: sum(|kind| kind.processes),
        threads: sum(|kind| kind.threads),
        descriptors: sum(|kind| kind.descriptors),
        kinds,
    }
}

fn table(all: &[(Contender, Vec<Density>)]) -> Table {
    let mut table = Table::new(&[
        "Pods",
        "who",
        "PSS, MB",
        "node's memory, MB",
        "processes",
        "threads",
        "descriptors",
        "next, ms",
    ]);
    for (who, densities) in all {
        for it in densities {
            table.row([
                it.pods.to_string(),
                who.name().into(),
                format!("{:.2}", it.pss / MB),
                format!("{:.2}", it.available / MB),
                format!("{:.1}", it.processes),
                format!("{:.1}", it.threads),
                format!("{:.1}", it.descriptors),
                it.next.to_string(),
            ]);
        }
    }
    table
}

/// Returns the kinds of processes, for the largest number of Pods.
fn kinds(all: &[(Contender, Vec<Density>)]) -> Table {
    let mut table = Table::new(&[
        "who",
        "process",
        "per Pod",
        "PSS, MB",
        "private, MB",
        "threads",
        "descriptors",
    ]);
    for (who, densities) in all {
        for (name, kind) in densities.last().into_iter().flat_map(|it| &it.kinds) {
            table.row([
                who.name().into(),
                name.clone(),
                format!("{:.1}", kind.processes),
                format!("{:.2}", kind.pss / MB),
                format!("{:.2}", kind.private / MB),
                format!("{:.1}", kind.threads),
                format!("{:.1}", kind.descriptors),
            ]);
        }
    }
    table
}

fn plots(all: &[(Contender, Vec<Density>)]) -> [Plot; 3] {
    let lines = |of: fn(&Density) -> f64| {
        let of_one = |densities: &Vec<Density>| {
            densities.iter().map(|it| (it.pods as f64, of(it))).collect::<Vec<_>>()
        };
        all.iter().map(|(who, it)| (who.name().into(), of_one(it))).collect()
    };
    let over = "idle Pods";
    let plot = |file, title, of| Plot { file, title, over, lines: lines(of) };
    [
        plot("density-pss", "PSS of one Pod's processes, MB", |it| it.pss / MB),
        plot("density-available", "Memory of the node for one Pod, MB", |it| it.available / MB),
        plot("density-next", "Start of the next Pod to its first answer, ms", |it| it.next.median),
    ]
}

fn figures(all: &[(Contender, Vec<Density>)]) -> Vec<Figure> {
    let at = |wanted: Contender| {
        let (_, densities) = all.iter().find(|(who, _)| *who == wanted)?;
        densities.iter().find(|it| it.pods == COMPARED).or(densities.last())
    };
    let [ours, peer, runc] = Contender::REAL.map(at);
    let (Some(ours), Some(peer), Some(runc)) = (ours, peer, runc) else { return Vec::new() };
    let pss = format!("idle HTTP Pod at {} Pods, PSS", ours.pods);
    let available = format!("idle HTTP Pod at {} Pods, MemAvailable", ours.pods);
    let threads = ours.kinds.get("shim").map_or(0.0, |shim| shim.threads);
    let most =
        |work: &str, unit, most, reached| Figure::new(work, unit, Reach::AtMost(most), reached);
    let against_before = at(Contender::Before).into_iter().flat_map(|before| {
        [
            most(&pss, "× before", 0.55, ours.pss / before.pss),
            most(&available, "× before", 0.75, ours.available / before.available),
        ]
    });
    let figures = [
        most(&pss, "MB", 1.0, ours.pss / MB),
        most(&pss, "× peer", 0.35, ours.pss / peer.pss),
        most(&available, "× peer", 0.55, ours.available / peer.available),
        most(&available, "× runc", 0.65, ours.available / runc.available),
        most("processes of a Pod of one container", "", 4.0, ours.processes),
        most("threads of an idle shim", "", 4.0, threads),
    ];
    figures.into_iter().chain(against_before).collect()
}
