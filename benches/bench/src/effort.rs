//! How much is measured, and the containerd it is measured on.

use anyhow::{Context, Result};
use tests::Node;
use tests::containerd::Containerd;

use crate::contender::Contender;
use crate::needs;

/// So often is tried what a contender may fail to start, which is told: of some thousand of the peer's tasks one does.
pub const ATTEMPTS: u32 = 3;

/// Tries what a contender may fail at, each time under another name: of the one that failed something may be left for a
/// while.
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
    /// The same of what takes seconds each.
    pub slow_rounds: usize,
    /// Tasks in a churn of four at a time; a quarter of them otherwise.
    pub tasks: usize,
    /// Idle Pods at once.
    pub pods: &'static [usize],
    /// Further Pods that are started beside the idle ones, for the time that takes.
    pub next: usize,
    /// For how long a server is asked, in seconds.
    pub http_seconds: u32,
    /// How often it is.
    pub http_rounds: usize,
    /// How long its memory may take to come back, in seconds.
    pub http_settles: u64,
    /// Pods of a large guest that are created at once; a fifth of them where each is compiled.
    pub replicas: usize,
    /// Pods of a large guest that wait.
    pub waiting: usize,
    /// Pods of a Deployment that is scaled up.
    pub scaled: usize,
    /// Numbers of idle Pods beside which the steps of a start are traced: some, and as many as a large node has.
    pub crowds: [usize; 2],
    /// Memory of the node that is to be filled, in MiB.
    pub gateway: u64,
}

/// In a few minutes: enough to see that it works, and what is much slower than it was.
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

/// What each scenario begins with.
#[derive(Debug)]
pub struct Bench {
    /// How much is measured.
    pub effort: Effort,
    /// The version that all scenarios use, with the contenders' handlers.
    pub containerd: Containerd,
}

impl Bench {
    /// On the newest containerd there is.
    ///
    /// # Errors
    /// With all that this machine lacks.
    pub fn new(effort: Effort) -> Result<Bench> {
        needs::check()?;
        let mut containerd = Containerd::available()?.pop().context("there is no containerd")?;
        let others = [Contender::Peer].into_iter().chain(Contender::before());
        containerd.handlers = others.map(|who| who.handler().to_owned()).collect();
        Ok(Bench { effort, containerd })
    }

    /// A node that no other scenario has used.
    pub fn node(&self) -> Result<Node> {
        Node::start(self.containerd.clone())
    }
}

/// Ends a node. What a contender has left is told and taken away: it is no reason to lose what was measured.
pub fn end(node: Node) {
    if let Err(error) = node.stop() {
        println!("  {error:#}");
    }
}
