//! `interfaces`: measures a `get` of `wasi:keyvalue` in memory and in Redis, beside a native client of that Redis.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tests::network::within;
use tests::redis::{PORT, Redis};
use tests::{Container, Pod, RunningPod};

use crate::effort::{self, Bench};
use crate::report::{Figure, Reach, Scenario, Section, Table, data};
use crate::statistics::in_turn;

/// The scenario.
pub const SCENARIO: Scenario =
    Scenario { name: "interfaces", title: "A value of a key-value store", measure };

const METHOD: &str = "A guest calls `get` again and again for a value of 100 bytes, and measures the mean of its \
    calls. The native client is a\nsocket that sends the same command to the same Redis, in the same network, and compares the \
    value. All have one connection\nover loopback, without TLS, and one call at a time.";

/// Calls of a run.
const COUNT: u32 = 20_000;

/// The value that the guest sets.
const VALUE: [u8; 100] = [b'x'; 100];

/// A client, and its store.
#[derive(Debug, Clone, Copy)]
enum Client {
    Memory,
    Redis,
    Native,
}

fn measure(bench: &Bench) -> Result<Section> {
    let node = bench.node()?;
    let memory = node.run_pod(&Pod::new("memory"))?;
    let url = format!("redis://127.0.0.1:{PORT}");
    let pod = node.run_pod(&Pod::new("redis").annotation("wasmtime.shim/keyvalue", &url))?;
    let redis = Redis::start(&pod, &[])?;
    let image = node.image("keyvalue-loop")?;
    let clients = [Client::Memory, Client::Redis, Client::Native];
    let times = in_turn(&clients, bench.effort.rounds, |client, round| match client {
        Client::Memory => guest(&memory, &image, round),
        Client::Redis => guest(&pod, &image, round),
        Client::Native => native(&pod.network),
    })?;
    drop(redis);
    effort::end(node);
    let names = ["this shim, in memory", "this shim, in Redis", "native, in Redis"];
    let mut table = Table::new(&["who", "µs"]);
    for (name, it) in names.iter().zip(&times) {
        table.row([(*name).into(), it.to_string()]);
    }
    let [memory, redis, native] = [times[0].median, times[1].median, times[2].median];
    let figures = [
        Figure::new("`get` of wasi:keyvalue in memory", "µs", Reach::AtMost(5.0), memory),
        Figure::new("the same in Redis", "× native", Reach::AtMost(1.3), redis / native),
    ];
    let numbers = data(names.into_iter().zip(&times))?;
    Ok(Section::new(&SCENARIO, METHOD, numbers).table(table).figures(figures))
}

/// Returns the time of a call of a guest, in microseconds.
fn guest(pod: &RunningPod<'_>, image: &str, round: usize) -> Result<f64> {
    let count = COUNT.to_string();
    let container = pod.run(&Container::new(&format!("loop-{round}"), image).args(&[&count]))?;
    let (exit, logs) = (container.wait()?, container.logs()?);
    ensure!(exit.code == 0, "{exit:?} {logs:?}");
    let nanoseconds: f64 = logs.stdout.trim().parse().with_context(|| format!("{logs:?}"))?;
    container.remove()?;
    Ok(nanoseconds / 1e3)
}

/// Returns the time of the same call of a native client. A guest must have set the value before.
fn native(network: &Path) -> Result<f64> {
    within(network, || {
        let stream = TcpStream::connect(("127.0.0.1", PORT))?;
        stream.set_nodelay(true)?;
        let (mut writer, mut reader) = (stream.try_clone()?, BufReader::new(stream));
        let (mut head, mut value) = (String::new(), [0; VALUE.len() + 2]);
        let since = Instant::now();
        for _ in 0..COUNT {
            writer.write_all(b"*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n")?;
            head.clear();
            reader.read_line(&mut head)?;
            reader.read_exact(&mut value)?;
            ensure!(head == "$100\r\n" && value.starts_with(&VALUE), "another value: {head}");
        }
        Ok(since.elapsed().as_secs_f64() * 1e6 / f64::from(COUNT))
    })
}
