//! `gateway`: measures how many idle HTTP Pods fit into a small node's memory, including containerd.
//!
//! The cgroup of the node's Pods gets a limit, and containerd with all its shims is moved into it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tests::{Node, RunningPod, cgroups};

use crate::contender::Contender;
use crate::effort::Bench;
use crate::report::{Figure, Reach, Scenario, Section, Table, data};
use crate::serving;

/// The scenario.
pub const SCENARIO: Scenario =
    Scenario { name: "gateway", title: "Idle HTTP Pods in a small node's memory", measure };

/// Largest number of Pods: the number of addresses in the node's network.
const MOST: usize = 1000;

fn measure(bench: &Bench) -> Result<Section> {
    let size = bench.effort.gateway;
    let mut counts = Vec::new();
    for who in Contender::REAL {
        let count = fill(bench, who).with_context(|| who.name())?;
        println!("  {count} Pods of {}", who.name());
        counts.push(count);
    }
    let method = format!(
        "Pods are started one after the other in a cgroup of {size} MiB that contains containerd, the shims and the Pods, \
        until one\nfails to start, one no longer answers, or the kernel kills a process because memory ran out. \
        The count is that of the\nPods before, when every one of them answered."
    );
    let mut table = Table::new(&["who", "Pods", "of the peer's"]);
    for (who, count) in Contender::REAL.iter().zip(&counts) {
        let ratio = format!("{:.2}", *count as f64 / counts[1] as f64);
        table.row([who.name().into(), count.to_string(), ratio]);
    }
    let work = format!("gateway: idle HTTP Pods in {size} MiB");
    let reached = counts[0] as f64 / counts[1] as f64;
    let figure = Figure::new(&work, "× peer", Reach::AtLeast(3.0), reached);
    let numbers = data(Contender::REAL.iter().map(|who| who.name()).zip(&counts))?;
    Ok(Section::new(&SCENARIO, &method, numbers).table(table).figures([figure]))
}

/// Fills a node of its own, which may not survive it.
fn fill(bench: &Bench, who: Contender) -> Result<usize> {
    let node = bench.node()?;
    who.server(&node)?;
    let limit = Limit::set(&node, bench.effort.gateway << 20)?;
    let mut pods = Vec::new();
    while pods.len() < MOST && fits(&node, who, &limit, &mut pods) {}
    drop(limit);
    let count = pods.len();
    if let Err(error) = serving::take_away(pods) {
        println!("  what ran out of memory could not be stopped: {error:#}");
    }
    // Stopping the node would report the cgroup that contains its containerd. Dropping it removes everything.
    drop(node);
    Ok(count)
}

/// Returns whether one more Pod fits. If it does, it is added to `pods`.
fn fits<'a>(node: &'a Node, who: Contender, limit: &Limit, pods: &mut Vec<RunningPod<'a>>) -> bool {
    let Ok((pod, _)) = serving::start_once(node, who, &format!("gateway-{}", pods.len())) else {
        return false;
    };
    let all_answer = || pods.iter().chain([&pod]).all(|pod| serving::answers(pod).is_ok());
    let fits = all_answer() && !limit.has_killed();
    if fits {
        pods.push(pod);
    }
    fits
}

/// A limit on the cgroup of a node's Pods, which includes containerd. It lasts as long as this value.
struct Limit {
    folder: PathBuf,
    file: &'static str,
}

impl Limit {
    fn set(node: &Node, bytes: u64) -> Result<Limit> {
        let parent = node.cgroup_parent();
        let limit = Limit::of(&parent).context("there are no cgroups of memory")?;
        limit.write(&bytes.to_string())?;
        let daemon = node.daemon_pid().context("containerd does not run")?.to_string();
        for folder in cgroups::create(&format!("{parent}/containerd"))? {
            let file = folder.join("cgroup.procs");
            fs::write(&file, &daemon).with_context(|| file.display().to_string())?;
        }
        Ok(limit)
    }

    /// Returns the cgroup of that path. It is created if it does not exist.
    fn of(path: &str) -> Option<Limit> {
        let folders = cgroups::create(path).ok()?;
        for folder in &folders {
            // On v2, the file of the limit does not exist without this (cgroups(7)).
            for above in folder.ancestors().skip(1).take(1) {
                let _ = fs::write(above.join("cgroup.subtree_control"), "+memory");
            }
        }
        let files = ["memory.limit_in_bytes", "memory.max"];
        folders.into_iter().find_map(|folder| {
            let file = files.into_iter().find(|file| folder.join(file).exists())?;
            Some(Limit { folder, file })
        })
    }

    fn write(&self, value: &str) -> Result<()> {
        let file = self.folder.join(self.file);
        fs::write(&file, value).with_context(|| file.display().to_string())
    }

    /// Returns whether the kernel has killed a process in it because memory ran out.
    fn has_killed(&self) -> bool {
        kills(&self.folder) > 0
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let none = if self.file == "memory.max" { "max" } else { "-1" };
        // Without the limit, the rest can be stopped normally. If it cannot be removed, the rest is killed.
        let _ = self.write(none);
    }
}

/// Returns `oom_kill` of a cgroup and of those below it, because v1 only counts it in the victim's cgroup.
fn kills(folder: &Path) -> u64 {
    let files = ["memory.oom_control", "memory.events"].map(|file| folder.join(file));
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let own = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse::<u64>().ok());
    let below = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    own.unwrap_or_default() + below.filter(|path| path.is_dir()).map(|it| kills(&it)).sum::<u64>()
}
