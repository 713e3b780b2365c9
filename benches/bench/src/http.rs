//! `http`: measures the requests per second of a server in a Pod, with a fresh instance for each request and with
//! reused ones.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tests::{Container, Node, Pod, RunningContainer, RunningPod, cgroups, command};

use crate::contender::{Contender, PORT};
use crate::effort::{self, Bench};
use crate::native;
use crate::report::machine::{MB, processors};
use crate::report::{Figure, Reach, Scenario, Section, Table, data};
use crate::serving::{self, OWN_NETWORK};
use crate::statistics::each_in_turn;
use crate::wasmtime_serve;

/// The scenario.
pub const SCENARIO: Scenario =
    Scenario { name: "http", title: "Requests per second of a server in a Pod", measure };

/// Processors for a server that gets one, and for its load.
pub const SERVERS: &str = "0";
pub const LOADS: &str = "1";

/// Connections that send one request after the other.
pub const CONNECTIONS: u32 = 50;

/// Number of requests that a reused instance serves.
const REUSE: u32 = 1000;

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Server {
    Fresh,
    Reused,
    Peer,
    WasmtimeFresh,
    WasmtimeReused,
    Native,
    /// An older build of this shim, with fresh instances.
    Before,
}

/// Servers that are always there. The first three run in Pods.
const ALWAYS: [Server; 6] = [
    Server::Fresh,
    Server::Reused,
    Server::Peer,
    Server::WasmtimeFresh,
    Server::WasmtimeReused,
    Server::Native,
];

impl Server {
    /// Returns all servers, in the order of their results.
    fn all() -> Vec<Server> {
        ALWAYS.into_iter().chain(Contender::before().map(|_| Server::Before)).collect()
    }

    fn name(self) -> &'static str {
        match self {
            Server::Fresh => "this shim, fresh",
            Server::Reused => "this shim, reused",
            Server::Peer => "peer",
            Server::WasmtimeFresh => "`wasmtime serve`, fresh",
            Server::WasmtimeReused => "`wasmtime serve`, reused",
            Server::Native => "native",
            Server::Before => "before, fresh",
        }
    }
}

/// A server's Pod, and its container.
type InPod<'a> = (RunningPod<'a>, RunningContainer<'a>);

/// Processors for the server.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// One processor. The load has another one.
    One,
    /// All processors, together with the load.
    All,
}

impl Place {
    fn name(self) -> &'static str {
        match self {
            Place::One => "one, the load on another",
            Place::All => "all, with the load",
        }
    }
}

/// Requests to a server.
#[derive(Debug)]
pub struct Asked<'a> {
    /// Path of the URL.
    pub path: &'static str,
    /// Connections that send one request after the other.
    pub connections: u32,
    /// Script of `wrk`, for requests other than GET.
    pub script: Option<&'a Path>,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Asked { path: "/", connections: CONNECTIONS, script: None }
    }
}

/// Results of one server.
#[derive(Debug, Clone, Copy, Serialize)]
struct Served {
    /// Requests per second.
    rate: f64,
    /// The ninety-ninth percentile of the time to an answer, in milliseconds.
    p99: f64,
    /// Memory of the process of a server in a Pod afterwards, in KiB.
    rss: u64,
}

fn measure(bench: &Bench) -> Result<Section> {
    let node = bench.node()?;
    let one = place(&node, bench, Place::One)?;
    let all = place(&node, bench, Place::All)?;
    effort::end(node);
    let mut table =
        Table::new(&["processors", "who", "requests/s", "p99, ms", "RSS, MB", "of the peer's"]);
    for (place, served) in [(Place::One, &one), (Place::All, &all)] {
        for (server, it) in Server::all().iter().zip(served) {
            table.row([
                place.name().into(),
                server.name().into(),
                format!("{:.0}", it.rate),
                format!("{:.1}", it.p99),
                if it.rss > 0 { format!("{:.1}", it.rss as f64 / MB) } else { String::new() },
                format!("{:.2}", it.rate / served[Server::Peer as usize].rate),
            ]);
        }
    }
    let least =
        |what, unit, least, reached| Figure::new(what, unit, Reach::AtLeast(least), reached);
    let wasmtime = "× `wasmtime serve`";
    let of = |all: &[Served], ours: Server, other: Server| {
        all[ours as usize].rate / all[other as usize].rate
    };
    use Server::{Fresh, Native, Peer, Reused, WasmtimeFresh, WasmtimeReused};
    let before = Contender::before().map(|_| of(&one, Fresh, Server::Before));
    let before =
        before.map(|reached| least("http, fresh, one processor", "× before", 0.97, reached));
    let figures = [
        least("http, fresh, one processor", "× peer", 1.6, of(&one, Fresh, Peer)),
        least("http, fresh, one processor", wasmtime, 2.0, of(&one, Fresh, WasmtimeFresh)),
        least("http, fresh, all processors", "× peer", 2.4, of(&all, Fresh, Peer)),
        least("http, fresh, all processors", "× native", 0.45, of(&all, Fresh, Native)),
        least("http, reused, one processor", "× native", 0.75, of(&one, Reused, Native)),
        least("http, reused, one processor", wasmtime, 1.1, of(&one, Reused, WasmtimeReused)),
        Figure::new(
            "http, fresh, resident after the run",
            "MB",
            Reach::AtMost(40.0),
            one[Fresh as usize].rss as f64 / MB,
        ),
    ];
    let method = format!(
        "`wrk` sends requests to each server in turn, with {CONNECTIONS} connections for {} s, {} times, from within the Pod's network. The\n\
         results are medians. *Fresh* has an instance for each request, as the peer has; *reused* has one for {REUSE} requests. `wasmtime\n\
         serve` with the same guest, and *native*, which is hyper on a thread, run outside of any container. If the load shares the\n\
         processors, it takes its part of them, and a Pod has the weight of the threads outside (`requests.cpu`).",
        bench.effort.http_seconds, bench.effort.http_rounds,
    );
    let numbers = [(Place::One, one), (Place::All, all)].into_iter().map(|(place, served)| {
        Ok((place.name(), data(Server::all().iter().map(|it| it.name()).zip(served))?))
    });
    let numbers = data(numbers.collect::<Result<Vec<_>>>()?)?;
    Ok(Section::new(&SCENARIO, &method, numbers).table(table).figures(figures).figures(before))
}

/// Measures the servers in turn.
fn place(node: &Node, bench: &Bench, place: Place) -> Result<Vec<Served>> {
    println!("  {}", place.name());
    let fresh = Pod::new("http-fresh").handler(Contender::Ours.handler());
    let reused = Pod::new("http-reused")
        .handler(Contender::Ours.handler())
        .annotation("wasmtime.shim/http-instances", &format!("reuse={REUSE}"));
    let peer = Pod::new("http-peer").handler(Contender::Peer.handler());
    let before = Contender::before().map(|who| Pod::new("http-before").handler(who.handler()));
    let pods = [fresh, reused, peer].map(|pod| start(node, &pod, place));
    let pods = pods.into_iter().collect::<Result<Vec<_>>>()?;
    let before = before.map(|pod| start(node, &pod, place)).transpose()?;
    // kubelet does this for Pods. The weight gives the servers outside of Pods an equal share beside the load.
    cgroups::weigh(&node.cgroup_parent(), processors())?;
    let processor = matches!(place, Place::One).then_some(SERVERS);
    let wasmtime = [1, REUSE].map(|reuse| wasmtime_serve::serve(processor, reuse));
    let wasmtime = wasmtime.into_iter().collect::<Result<Vec<_>>>()?;
    let native = native::serve(processor)?;
    let outside = wasmtime.iter().map(|server| server.port).chain([native.port]);
    let outside = outside.map(|port| (Path::new(OWN_NETWORK), port, None));
    let servers: Vec<_> =
        pods.iter().map(asked).chain(outside).chain(before.iter().map(asked)).collect();
    let served = each_in_turn(&servers, bench.effort.http_rounds, |(network, port, server), _| {
        let (rate, p99) = load(network, *port, bench, place, &Asked::default())?;
        let rss = match server {
            Some(server) => server.process()?.memory()?.rss,
            None => 0,
        };
        Ok(Served { rate, p99, rss })
    })?;
    serving::take_away(pods.into_iter().chain(before).map(|(pod, _)| pod).collect())?;
    Ok(served.into_iter().map(median).collect())
}

/// Returns where a server in a Pod is asked.
fn asked<'a>((pod, server): &'a InPod<'_>) -> (&'a Path, u16, Option<&'a RunningContainer<'a>>) {
    (&pod.network, PORT, Some(server))
}

fn start<'a>(node: &'a Node, pod: &Pod, place: Place) -> Result<InPod<'a>> {
    let server = Container::new("server", &node.image("hello-http")?);
    let server = match place {
        Place::One => server.processors(SERVERS),
        // Without a CPU request, the kernel does not distribute the container's threads over the processors.
        Place::All => server.cpu_request(processors()),
    };
    serving::run(node, pod, &server)
}

/// Returns the requests per second, and the ninety-ninth percentile in milliseconds. Each answer must be a success.
pub fn load(
    network: &Path,
    port: u16,
    bench: &Bench,
    place: Place,
    asked: &Asked<'_>,
) -> Result<(f64, f64)> {
    let network = format!("--net={}", network.display());
    let (connections, seconds) =
        (format!("-c{}", asked.connections), format!("-d{}", bench.effort.http_seconds));
    let url = format!("http://127.0.0.1:{port}{}", asked.path);
    let script = asked.script.map(|script| format!("-s{}", script.display()));
    let load = ["wrk", "-t1", &connections, &seconds, "--latency"];
    let load = load.into_iter().chain(script.as_deref()).chain([url.as_str()]);
    let mut words = vec![network.as_str()];
    if matches!(place, Place::One) {
        words.extend(["taskset", "-c", LOADS]);
    }
    words.extend(load);
    let output = command::run("nsenter", &words)?.success()?.stdout;
    let is_bad = ["Non-2xx", "Socket errors"].iter().any(|bad| output.contains(bad));
    ensure!(!is_bad, "not each answer was a success: {output}");
    let of = |name: &str| {
        let line = output.lines().find_map(|line| line.trim().strip_prefix(name));
        line.map(str::trim).with_context(|| format!("wrk prints no {name} in {output}"))
    };
    Ok((of("Requests/sec:")?.parse()?, milliseconds(of("99%")?)?))
}

/// Parses `1.50ms`, `900.00us` or `1.20s`.
fn milliseconds(text: &str) -> Result<f64> {
    let digits = text.find(|c: char| c.is_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "us" => 1e-3,
        "ms" => 1.0,
        "s" => 1e3,
        _ => anyhow::bail!("no time: {text}"),
    };
    Ok(number.parse::<f64>()? * factor)
}

fn median(mut all: Vec<Served>) -> Served {
    all.sort_by(|one, other| one.rate.total_cmp(&other.rate));
    all[all.len() / 2]
}
