//! `density`: what idle HTTP Pods occupy, each having answered once.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use tests::{Node, processes};

use crate::Effort;
use crate::contender::Contender;
use crate::pod::{CONTENDERS, start};

/// After which nothing is done any more for what was started.
const SETTLES: Duration = Duration::from_secs(3);

/// One contender with so many Pods; all but the number of Pods for one of them.
#[derive(Debug, Serialize)]
pub struct Density {
    /// Who.
    pub contender: &'static str,
    /// How many there were at once.
    pub pods: usize,
    /// Proportional set size of all its processes, in KiB.
    pub pss: f64,
    /// By how much the node's available memory fell, in KiB.
    pub available: f64,
    /// Processes.
    pub processes: f64,
    /// Threads.
    pub threads: f64,
    /// How long the last of them took to its first answer, in milliseconds.
    pub last_start: f64,
}

/// One contender after the other has the node for itself.
pub fn measure(node: &Node, effort: Effort) -> Result<Vec<Density>> {
    let mut found = Vec::new();
    for pods in effort.pods {
        for contender in CONTENDERS {
            println!("density: {pods} Pods of {}", contender.name());
            found.push(idle(node, contender, *pods)?);
        }
    }
    Ok(found)
}

fn idle(node: &Node, contender: Contender, count: usize) -> Result<Density> {
    let before = available()?;
    let mut pods = Vec::new();
    let mut last_start = 0.0;
    for number in 0..count {
        let (pod, time) = start(node, contender, &format!("idle-{number}"))?;
        pods.push(pod);
        last_start = time;
    }
    thread::sleep(SETTLES);
    let occupied = before - available()?;
    let (mut pss, mut processes, mut threads) = (0, 0, 0);
    for pod in &pods {
        for process in processes::family(&pod.shim()?) {
            pss += process.memory()?.pss;
            threads += process.threads()?;
            processes += 1;
        }
    }
    for pod in pods {
        pod.stop()?;
        pod.remove_in_the_end()?;
    }
    let each = |all: f64| all / count as f64;
    Ok(Density {
        contender: contender.name(),
        pods: count,
        pss: each(pss as f64),
        available: each(occupied),
        processes: each(f64::from(processes)),
        threads: each(threads as f64),
        last_start,
    })
}

/// `MemAvailable` of the node, in KiB (proc(5)).
fn available() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next()).context("MemAvailable")?;
    Ok(number.parse()?)
}
