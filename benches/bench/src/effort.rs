//! Defines how much is measured, and on which containerd.

use anyhow::{Context, Result};
use tests::Node;
use tests::containerd::Containerd;

use crate::contender::Contender;
use crate::needs;

/// Number of attempts at what a contender may fail to start. A failure is reported. About one in some thousand tasks of
/// the baseline fails.
pub const ATTEMPTS: u32 = 3;

/// Repeats what a contender may fail at, each time under another name, because something of a failed attempt may be
/// left for a while.
pub fn tried<T>(name: &str, attempt: impl Fn(&str) -> Result<T>) -> Result<T> {
    for number in 1..ATTEMPTS {
        match attempt(&format!("{name}-{number}")) {
            Ok(done) => return Ok(done),
            Err(error) => println!("  {name}, tried again: {error:#}"),
        }
    }
    attempt(name)
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Runs and Pods of each contender.
    pub rounds: usize,
    /// Runs of what takes seconds each.
    pub slow_rounds: usize,
    /// Tasks with four at a time. For other numbers it is a quarter of them.
    pub tasks: usize,
    /// Idle Pods at once.
    pub pods: &'static [usize],
    /// Further Pods that are started beside the idle ones, to measure their start.
    pub next: usize,
    /// Time for which a server gets requests, in seconds.
    pub http_seconds: u32,
    /// Number of times that it gets them.
    pub http_rounds: usize,
    /// Time for its memory to be released, in seconds.
    pub http_settles: u64,
    /// Pods of a large guest that are created at once. It is a fifth of them if each is compiled.
    pub replicas: usize,
    /// Pods of a large guest that wait.
    pub waiting: usize,
    /// Pods of a Deployment that is scaled up.
    pub scaled: usize,
    /// Numbers of idle Pods beside which the steps of a start are traced: some, and as many as a large node has.
    pub crowds: [usize; 2],
    /// Memory of the node that is filled, in MiB.
    pub gateway: u64,
}

/// Takes a few minutes. That is enough to see that it works, and what has become much slower.
pub const QUICK: Effort = Effort {
    rounds: 4,
    slow_rounds: 1,
    tasks: 16,
    pods: &[1, 10],
    next: 1,
    http_seconds: 1,
    http_rounds: 1,
    http_settles: 3,
    replicas: 2,
    waiting: 2,
    scaled: 5,
    crowds: [10, 20],
    gateway: 96,
};

/// For the report.
pub const FULL: Effort = Effort {
    rounds: 20,
    slow_rounds: 2,
    tasks: 1000,
    pods: &[1, 10, 50, 100, 200, 400],
    next: 5,
    http_seconds: 3,
    http_rounds: 5,
    http_settles: 10,
    replicas: 20,
    waiting: 10,
    scaled: 90,
    crowds: [100, 400],
    gateway: 512,
};

/// What each scenario starts with.
#[derive(Debug)]
pub struct Bench {
    /// How much is measured.
    pub effort: Effort,
    /// The version that all scenarios use, with the contenders' handlers.
    pub containerd: Containerd,
}

impl Bench {
    /// Prepares the bench on the newest containerd.
    ///
    /// # Errors
    /// The error lists everything that this machine lacks.
    pub fn new(effort: Effort) -> Result<Bench> {
        needs::check()?;
        let mut containerd = Containerd::available()?.pop().context("there is no containerd")?;
        let others = [Contender::Peer].into_iter().chain(Contender::before());
        containerd.handlers = others.map(|who| who.handler().to_owned()).collect();
        Ok(Bench { effort, containerd })
    }

    /// Starts a node that no other scenario has used.
    pub fn node(&self) -> Result<Node> {
        Node::start(self.containerd.clone())
    }
}

/// Ends a node. What a contender has left is reported and removed, so that the measurements are not lost because of it.
pub fn end(node: Node) {
    if let Err(error) = node.stop() {
        println!("  {error:#}");
    }
}
