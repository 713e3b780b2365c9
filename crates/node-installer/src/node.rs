//! Facts about a node, which are collected before anything is planned.

use std::thread;
use std::time::{Duration, Instant};

use crate::args::NodeArgs;
use crate::containerd::Program;
use crate::distribution::{HandlerLocation, Layout};
use crate::errors::Error;
use crate::restart::Restart;
use crate::tree::Tree;
use crate::version::Version;

/// A node.
#[derive(Debug)]
pub struct Node {
    /// Files of the node.
    pub tree: Tree,
    /// Paths of its containerd.
    pub layout: Layout,
    /// Program of containerd, if it can be run.
    pub program: Option<Program>,
    /// Version of containerd.
    pub version: Version,
    /// How to restart containerd.
    pub restart: Restart,
    /// Time limit for containerd to come back.
    pub comes_back: Duration,
}

const INTERVAL: Duration = Duration::from_millis(250);

impl Node {
    /// Waits for something that containerd does after a restart.
    pub fn until(&self, is_so: impl Fn() -> bool) -> Option<()> {
        let start = Instant::now();
        while !is_so() {
            if start.elapsed() > self.comes_back {
                return None;
            }
            thread::sleep(INTERVAL);
        }
        Some(())
    }

    /// Collects the facts.
    pub fn find(args: &NodeArgs) -> Result<Self, Error> {
        let tree = Tree::new(&args.root);
        let mut layout = Layout::of(&tree, args.data_dir.as_deref());
        if let Some(config) = &args.config {
            layout.location = HandlerLocation::File(config.clone());
        }
        if let Some(socket) = &args.socket {
            layout.socket.clone_from(socket);
        }
        // Programs of another tree may be for another machine.
        let is_runnable = tree.is_live() || args.containerd.is_some();
        let program = match is_runnable {
            true => Program::find(&tree, &layout, args.containerd.as_deref()).map(Some),
            false => Ok(None),
        };
        let (program, version) = match (program, &args.containerd_version) {
            (program, Some(version)) => (program.ok().flatten(), version.clone()),
            (program, None) => {
                let nothing = || Error::NoContainerd {
                    looked: format!("programs below {}", args.root.display()),
                };
                let program = program?.ok_or_else(nothing)?;
                let version = program.version()?;
                (Some(program), version)
            }
        };
        let restart = Restart::of(&tree, &layout, args);
        // A dry run does not restart anything, so it does not need a way to do so.
        let restart = if args.dry_run { restart.unwrap_or(Restart::Later) } else { restart? };
        let comes_back = Duration::from_secs(args.restart_timeout);
        Ok(Self { tree, layout, program, version, restart, comes_back })
    }
}
