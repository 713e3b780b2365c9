//! `cache`: measures the cost of a large guest that many Pods run: the time to compile it, and memory.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tests::node::KUBERNETES;
use tests::{Container, Node, Pod, RunningPod, processes};

use crate::contender::Contender;
use crate::density::{self, Kind};
use crate::effort::{self, Bench, tried};
use crate::guest;
use crate::report::machine::MB;
use crate::report::{Figure, Reach, Scenario, Section, Table, data};
use crate::serving::{self, at_once};

/// The scenario.
pub const SCENARIO: Scenario =
    Scenario { name: "cache", title: "Many Pods of one large guest", measure };

/// A component of 36 MB that prints the greeting. On request, it waits for the end of its input.
const GUEST: &str = "hello-python";
const GREETING: &str = "hello from wasi\n";

/// Unit of the kernel's processor time, per second (proc(5), `/proc/stat`; the same on all Linux machines).
const TICKS: f64 = 100.0;

const METHOD: &str = "Pods of a component of 36 MB are created at once, of an image that was never run before. The cost of \
    the compilation\nis the processor time of the whole machine until all Pods have ended, minus that of the same number \
    of Pods of an image that was\nrun before. *Once* is the cost for a single Pod. The peer compiles for each Pod, so it \
    has fewer Pods. Memory is that of all\nprocesses of a Pod, while the Pods wait for their input.";

/// Cost of a contender's compilation, in seconds.
#[derive(Debug, Serialize)]
struct Compiled {
    pods: usize,
    /// Processor time for one Pod.
    once: f64,
    /// Processor time for all Pods.
    all: f64,
    /// Time until all Pods had ended.
    time: f64,
}

/// Memory of Pods, in KiB for each.
#[derive(Debug, Serialize)]
struct Resident {
    pods: usize,
    pss: f64,
    private: f64,
}

fn measure(bench: &Bench) -> Result<Section> {
    let replicas = bench.effort.replicas;
    let (mut compiled, mut resident, mut shared) = (Vec::new(), Vec::new(), f64::NAN);
    for (who, pods) in [(Contender::Ours, replicas), (Contender::Peer, replicas / 5)] {
        println!("  {pods} Pods of {}", who.name());
        let node = bench.node()?;
        compiled.push(compile(&node, who, pods)?);
        let waiting = wait_for_input(&node, who, bench.effort.waiting)?;
        resident.push(in_memory(&waiting)?);
        if who == Contender::Ours {
            shared = least_shared(&node, &waiting)?;
        }
        serving::take_away(waiting)?;
        effort::end(node);
    }
    let names = [Contender::Ours, Contender::Peer].map(Contender::name);
    let mut costs =
        Table::new(&["who", "Pods", "compiled once, s", "for all, s", "times", "done after, s"]);
    let mut memory = Table::new(&["who", "Pods", "PSS, MB", "private, MB"]);
    for ((who, cost), kept) in names.iter().zip(&compiled).zip(&resident) {
        costs.row([
            (*who).into(),
            cost.pods.to_string(),
            format!("{:.1}", cost.once),
            format!("{:.1}", cost.all),
            format!("{:.2}", cost.all / cost.once),
            format!("{:.1}", cost.time),
        ]);
        let megabytes = |kibibytes: f64| format!("{:.1}", kibibytes / MB);
        memory.row([
            (*who).into(),
            kept.pods.to_string(),
            megabytes(kept.pss),
            megabytes(kept.private),
        ]);
    }
    let work = format!("{replicas} Pods of an uncompiled guest at once, compilation");
    let figures = [
        Figure::new(&work, "× once", Reach::AtMost(1.15), compiled[0].all / compiled[0].once),
        Figure::new("a guest's code that its Pods share", "", Reach::AtLeast(0.8), shared),
    ];
    let numbers = data([
        ("compiled", data(names.iter().copied().zip(&compiled))?),
        ("resident", data(names.iter().copied().zip(&resident))?),
    ])?;
    Ok(Section::new(&SCENARIO, METHOD, numbers).table(costs).table(memory).figures(figures))
}

fn compile(node: &Node, who: Contender, pods: usize) -> Result<Compiled> {
    let (one, many) = (unseen(node, who, "one")?, unseen(node, who, "many")?);
    let (first, _) = run(node, who, &one, 1)?;
    let (again, _) = run(node, who, &one, 1)?;
    let (all, time) = run(node, who, &many, pods)?;
    let (all_again, _) = run(node, who, &one, pods)?;
    Ok(Compiled { pods, once: first - again, all: all - all_again, time })
}

/// Makes an image for CRI that was never compiled.
fn unseen(node: &Node, who: Contender, round: &str) -> Result<String> {
    let image = guest::unseen(node, KUBERNETES, GUEST, &format!("{}-{round}", who.handler()))?;
    node.until_known(&image)?;
    Ok(image)
}

/// Runs this many Pods at once to their end. Returns the processor time and the elapsed time, in seconds.
fn run(node: &Node, who: Contender, image: &str, count: usize) -> Result<(f64, f64)> {
    let (before, busy) = (Instant::now(), busy()?);
    let name = |number| format!("{}-{number}-{}", who.handler(), before.elapsed().as_nanos());
    let once = |name: &str| {
        let pod = node.run_pod(&Pod::new(name).handler(who.handler()))?;
        let container = pod.run(&Container::new("hello", image))?;
        let exit = container.wait()?;
        let logs = container.logs()?;
        ensure!(exit.code == 0 && logs.stdout == GREETING, "{name}: {exit:?} {logs:?}");
        Ok(pod)
    };
    let names: Vec<_> = (0..count).map(name).collect();
    // If several Pods compile at once, the baseline sometimes loses one.
    let pods = at_once(&names, |name| tried(name, once))?;
    let (busy, time) = (self::busy()? - busy, before.elapsed().as_secs_f64());
    serving::take_away(pods)?;
    Ok((busy, time))
}

/// Returns the processor time of the whole machine since it started, in seconds.
fn busy() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "));
    let all = all.context("/proc/stat has no line of all processors")?;
    // The fields are user, nice, system, idle, iowait, irq, softirq (proc(5)).
    let ticks: Vec<f64> = all.split_whitespace().filter_map(|it| it.parse().ok()).collect();
    let of = |field: usize| ticks.get(field).copied().context("/proc/stat is too short");
    Ok((of(0)? + of(1)? + of(2)? + of(5)? + of(6)?) / TICKS)
}

/// Starts Pods of the same guest, which begin and wait for their input.
fn wait_for_input(node: &Node, who: Contender, count: usize) -> Result<Vec<RunningPod<'_>>> {
    let image = node.image(GUEST)?;
    let start = |number| {
        let pod = node.run_pod(&Pod::new(&format!("waits-{number}")).handler(who.handler()))?;
        let container = Container::new("hello", &image).args(&["wait"]).stdin();
        pod.run(&container)?.wait_for_output(GREETING.trim())?;
        Ok(pod)
    };
    (0..count).map(start).collect()
}

fn in_memory(pods: &[RunningPod<'_>]) -> Result<Resident> {
    let kinds = density::by_kind(pods)?;
    let sum = |of: fn(&Kind) -> f64| kinds.values().map(of).sum();
    Ok(Resident { pods: pods.len(), pss: sum(|kind| kind.pss), private: sum(|kind| kind.private) })
}

/// Returns which part of the guest's code in a Pod's memory is shared with others. It is the smallest value of all
/// Pods.
fn least_shared(node: &Node, pods: &[RunningPod<'_>]) -> Result<f64> {
    let mut least = f64::INFINITY;
    for pod in pods {
        let family = processes::family(&pod.shim()?);
        let mapped = family.iter().filter_map(|process| process.mapped(&node.blobs()).ok());
        let code = mapped.max_by_key(|it| it.resident).context("no process has mapped code")?;
        ensure!(code.resident > 0, "no code is in memory");
        least = least.min(1.0 - code.private as f64 / code.resident as f64);
    }
    Ok(least)
}
