//! Starts, queries and removes Pods that serve HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tests::network::within;
use tests::{Container, Node, Pod, RunningContainer, RunningPod};

use crate::contender::{Contender, PORT};
use crate::effort::tried;

/// Time limit for a server's first answer.
const LIMIT: Duration = Duration::from_secs(60);

/// Time limit for any other answer.
const ANSWERS: Duration = Duration::from_secs(10);

/// Starts a Pod that serves, and returns the milliseconds from the first call to its first answer. Tries again if that
/// fails.
pub fn start<'a>(
    node: &'a Node,
    contender: Contender,
    name: &str,
) -> Result<(RunningPod<'a>, f64)> {
    tried(name, |name| start_once(node, contender, name))
}

/// As [`start`], without another attempt.
pub fn start_once<'a>(
    node: &'a Node,
    contender: Contender,
    name: &str,
) -> Result<(RunningPod<'a>, f64)> {
    let server = contender.server(node)?;
    let before = Instant::now();
    let ran = run(node, &Pod::new(name).handler(contender.handler()), &server);
    let (pod, _) = ran.with_context(|| format!("the server of {}", contender.name()))?;
    Ok((pod, before.elapsed().as_secs_f64() * 1e3))
}

/// Runs a Pod with that server, and waits for its first answer.
pub fn run<'a>(
    node: &'a Node,
    pod: &Pod,
    server: &Container,
) -> Result<(RunningPod<'a>, RunningContainer<'a>)> {
    let running = node.run_pod(pod)?;
    let server = running.run(server)?;
    answers_within(LIMIT, &running.network)?;
    Ok((running, server))
}

/// Does the same for each name, in one thread for each.
pub fn at_once<T: Send>(
    names: &[String],
    work: impl Fn(&String) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || work(name))).collect();
        let panicked = |_| anyhow!("a thread has panicked");
        threads.into_iter().map(|it| it.join().map_err(panicked)?).collect()
    })
}

/// Stops Pods and removes them.
pub fn take_away(pods: Vec<RunningPod<'_>>) -> Result<()> {
    pods.into_iter().try_for_each(|pod| {
        pod.stop()?;
        pod.remove_in_the_end()
    })
}

/// Network namespace of a server that is in no Pod: that of the client (proc(5)).
pub const OWN_NETWORK: &str = "/proc/self/ns/net";

/// Fails if the Pod does not answer.
pub fn answers(pod: &RunningPod<'_>) -> Result<()> {
    answers_within(Duration::ZERO, &pod.network)
}

/// Sends a request from within the network namespace. Tries again until something listens.
fn answers_within(limit: Duration, network: &Path) -> Result<()> {
    within(network, move || {
        let end = Instant::now() + limit;
        loop {
            match ask() {
                Ok(answer) => {
                    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
                    return Ok(());
                }
                Err(error) => ensure!(Instant::now() < end, "{error}"),
            }
            thread::sleep(Duration::from_micros(500));
        }
    })
}

fn ask() -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT))?;
    stream.set_read_timeout(Some(ANSWERS))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
