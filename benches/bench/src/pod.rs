//! `pod`: RunPodSandbox, CreateContainer, StartContainer, until the first HTTP 200.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CloneFlags, setns};
use serde::Serialize;
use tests::{Node, Pod, RunningPod};

use crate::Effort;
use crate::contender::{Contender, PORT};
use crate::statistics::{Times, in_turn};

/// Who has Pods.
pub const CONTENDERS: [Contender; 3] = [Contender::Ours, Contender::Peer, Contender::Runc];

/// How long a server may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The times of one contender.
#[derive(Debug, Serialize)]
pub struct Pods {
    /// Who.
    pub contender: &'static str,
    /// From the first call to the first answer.
    pub times: Times,
}

/// Runs so many Pods of each.
pub fn measure(node: &Node, effort: Effort) -> Result<Vec<Pods>> {
    println!("pod: {} rounds", effort.rounds);
    let times = in_turn(&CONTENDERS, effort.rounds, |contender, round| {
        let (pod, time) = start(node, *contender, &format!("pod-{round}"))?;
        pod.stop()?;
        pod.remove_in_the_end()?;
        Ok(time)
    })?;
    let pods =
        |(contender, times): (&Contender, Times)| Pods { contender: contender.name(), times };
    Ok(CONTENDERS.iter().zip(times).map(pods).collect())
}

/// Starts a Pod that serves, and says how many milliseconds that took.
pub fn start<'a>(
    node: &'a Node,
    contender: Contender,
    name: &str,
) -> Result<(RunningPod<'a>, f64)> {
    let server = contender.server(node)?;
    let before = Instant::now();
    let pod = node.run_pod(&Pod::new(name).handler(contender.handler()))?;
    pod.run(&server)?;
    until_it_answers(&pod.network)
        .with_context(|| format!("the server of {}", contender.name()))?;
    Ok((pod, before.elapsed().as_secs_f64() * 1e3))
}

/// Asks from within the network namespace, which is a thread's own.
fn until_it_answers(network: &Path) -> Result<()> {
    let network = File::open(network)?;
    let asking = thread::spawn(move || -> Result<()> {
        setns(network, CloneFlags::CLONE_NEWNET)?;
        let end = Instant::now() + LIMIT;
        loop {
            match ask() {
                Ok(answer) => {
                    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    return Ok(());
                }
                Err(error) => ensure!(Instant::now() < end, "{error}"),
            }
            thread::sleep(Duration::from_micros(500));
        }
    });
    asking.join().map_err(|_| anyhow!("the thread that asks has panicked"))?
}

fn ask() -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", PORT))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
