//! `served`: measures a server that does not answer as fast as it can: at half of its rate, with large bodies, with
//! idle connections, and after the load.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow, bail, ensure};
use serde::Serialize;
use tests::{Pod, RunningContainer, RunningPod};

use crate::contender::Contender;
use crate::contender::PORT;
use crate::effort::{self, Bench};
use crate::http::{self, CONNECTIONS, LOADS, Place, SERVERS};
use crate::load::{self, Pace};
use crate::native;
use crate::report::machine::MB;
use crate::report::{Figure, Reach, Scenario, Section, Table, data};
use crate::serving::{self, OWN_NETWORK};
use crate::statistics::{Times, in_turn};

/// The scenario.
pub const SCENARIO: Scenario =
    Scenario { name: "served", title: "A server at half of what it can, and afterwards", measure };

const METHOD: &str = "Each request has a fresh instance. The server has one processor, and the load has another. *p99* is \
    measured at half of the\nrate that `wrk` has reached just before. *Echo* sends bodies of 1 MiB there and back; the memory \
    is the largest during that\ntime. *Afterwards* is 10 s after the load, or 3 s in a quick run. The memory of a connection \
    is measured with 1000 connections\nthat have sent one request and are open. Memory is PSS.";

/// Size of a body that is sent and echoed, in MiB.
const BODY: u32 = 1;

/// Numbers of connections with bodies in flight: few, and many, which must not take more memory.
const FEW: u32 = 4;
const MANY: u32 = 64;

/// Number of open and idle connections.
const IDLE: usize = 1000;

/// Interval between two measurements of memory.
const LOOKS: Duration = Duration::from_millis(200);

/// Results of one server. Memory is in KiB.
#[derive(Debug, Default, Serialize)]
struct Served {
    /// The ninety-ninth percentile at half of the rate, in milliseconds.
    p99: f64,
    /// MiB per second in each direction.
    echo: f64,
    before: u64,
    /// Largest memory with few bodies in flight, and with many.
    few: u64,
    many: u64,
    afterwards: u64,
    /// Memory of one connection.
    idle: f64,
}

fn measure(bench: &Bench) -> Result<Section> {
    let node = bench.node()?;
    let script = node.volume("bench")?.join("echo.lua");
    fs::write(
        &script,
        format!("wrk.method = 'POST'\nwrk.body = string.rep('x', {BODY} * 1048576)\n"),
    )?;
    let who = [Contender::Ours, Contender::Peer];
    let pods = who.map(|who| {
        let server = who.server(&node)?.processors(SERVERS);
        let pod = Pod::new(&format!("served-{}", who.handler())).handler(who.handler());
        serving::run(&node, &pod, &server)
    });
    let pods = pods.into_iter().collect::<Result<Vec<_>>>()?;
    let native = native::serve(Some(SERVERS))?;
    let own = Path::new(OWN_NETWORK);
    let network = |server: usize| pods.get(server).map_or(own, |(pod, _)| &pod.network);
    let port = |server: usize| if server < pods.len() { PORT } else { native.port };
    let p99 = in_turn(&[0, 1, 2], bench.effort.http_rounds, |server, _| {
        half(bench, network(*server), port(*server))
    })?;
    let [ours, peer, native_p99] = p99[..] else { bail!("not three servers") };
    let mut all = Vec::new();
    for ((pod, server), p99) in pods.iter().zip([ours, peer]) {
        println!("  {}", who[all.len()].name());
        all.push(served(bench, p99, pod, server, &script)?);
    }
    let echo = echo(bench, own, native.port, &script, FEW)?;
    all.push(Served { p99: native_p99.median, echo, ..Served::default() });
    drop(native);
    serving::take_away(pods.into_iter().map(|(pod, _)| pod).collect())?;
    effort::end(node);
    let names = [who[0].name(), who[1].name(), "native"];
    let figures = figures(&all)?;
    let table = table(names.iter().zip(&all));
    let numbers = data(names.into_iter().zip(&all))?;
    Ok(Section::new(&SCENARIO, METHOD, numbers).table(table).figures(figures))
}

fn table<'a>(all: impl Iterator<Item = (&'a &'static str, &'a Served)>) -> Table {
    let mut table = Table::new(&[
        "who",
        "p99, ms",
        "echo, MiB/s",
        "before, MB",
        "4 bodies, MB",
        "64 bodies, MB",
        "afterwards, MB",
        "a connection, KB",
    ]);
    let megabytes = |kibibytes: u64| match kibibytes {
        0 => String::new(),
        _ => format!("{:.1}", kibibytes as f64 / MB),
    };
    for (name, it) in all {
        table.row([
            (*name).into(),
            format!("{:.2}", it.p99),
            format!("{:.0}", it.echo),
            megabytes(it.before),
            megabytes(it.few),
            megabytes(it.many),
            megabytes(it.afterwards),
            if it.idle > 0.0 { format!("{:.1}", it.idle) } else { String::new() },
        ]);
    }
    table
}

fn figures(all: &[Served]) -> Result<[Figure; 6]> {
    let [ours, peer, native] = all else { bail!("not three servers") };
    let most = |work, unit, most, reached| Figure::new(work, unit, Reach::AtMost(most), reached);
    let afterwards = ours.afterwards as f64 / ours.before as f64;
    let echo = ours.echo / native.echo;
    Ok([
        most("http, p99 at half the rate", "ms", 1.0, ours.p99),
        most("http, p99 at half the rate", "× peer", 0.5, ours.p99 / peer.p99),
        Figure::new("http, echo of 1 MiB", "× native", Reach::AtLeast(0.6), echo),
        most("http, memory with 64 bodies of 1 MiB", "MB", 40.0, ours.many as f64 / MB),
        most("http, memory 10 s afterwards", "× before", 1.1, afterwards),
        most("http, an idle connection", "KB", 20.0, ours.idle),
    ])
}

fn served(
    bench: &Bench,
    p99: Times,
    pod: &RunningPod<'_>,
    server: &RunningContainer<'_>,
    script: &Path,
) -> Result<Served> {
    let network = &pod.network;
    let memory = || Ok::<_, anyhow::Error>(server.process()?.memory()?.pss);
    let settle = || thread::sleep(Duration::from_secs(bench.effort.http_settles));
    settle();
    let before = memory()?;
    let bodies = |connections| {
        thread::scope(|scope| {
            let load = scope.spawn(move || echo(bench, network, PORT, script, connections));
            let mut most = 0;
            while !load.is_finished() {
                most = most.max(memory()?);
                thread::sleep(LOOKS);
            }
            let rate = load.join().map_err(|_| anyhow!("the thread that asks has panicked"))??;
            Ok::<_, anyhow::Error>((rate, most))
        })
    };
    let (echo, few) = bodies(FEW)?;
    let (_, many) = bodies(MANY)?;
    settle();
    let afterwards = memory()?;
    let open = load::open(&pod.network, PORT, IDLE)?;
    settle();
    let with_them = memory()?;
    drop(open);
    let idle = with_them.saturating_sub(afterwards) as f64 * 1.024 / IDLE as f64;
    Ok(Served { p99: p99.median, echo, before, few, many, afterwards, idle })
}

/// Returns the ninety-ninth percentile at half of the reached rate.
fn half(bench: &Bench, network: &Path, port: u16) -> Result<f64> {
    let (rate, _) = http::load(network, port, bench, Place::One, &http::Asked::default())?;
    let pace = Pace {
        rate: rate / 2.0,
        connections: CONNECTIONS,
        time: Duration::from_secs(bench.effort.http_seconds.into()),
        processor: LOADS.parse()?,
    };
    let times = load::paced(network, port, pace)?;
    ensure!(!times.is_empty(), "nothing was asked");
    Ok(Times::of(times).p99)
}

/// Returns MiB per second.
fn echo(bench: &Bench, network: &Path, port: u16, script: &Path, connections: u32) -> Result<f64> {
    let asked = http::Asked { path: "/echo", connections, script: Some(script) };
    let (rate, _) = http::load(network, port, bench, Place::One, &asked)?;
    Ok(rate * f64::from(BODY))
}
