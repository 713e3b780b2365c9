//! `node-installer` on a node of the tests: as an administrator runs it, with the node's own places in place of a
//! distribution's.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::Node;
use crate::command::{self, Output};
use crate::containerd::repository;

/// How often is looked whether containerd is to be restarted.
const INTERVAL: Duration = Duration::from_millis(20);

/// The installer of this build.
pub fn program() -> PathBuf {
    repository().join("target/release/node-installer")
}

/// A node without our handler, and what stands in for systemd.
#[derive(Debug)]
pub struct Installer<'node> {
    node: &'node Node,
    places: Vec<String>,
}

impl<'node> Installer<'node> {
    /// Takes the handler out of the node's configuration.
    pub fn new(node: &'node Node) -> Result<Self> {
        let config = node.folder().join("config.toml");
        let text = fs::read_to_string(&config)?;
        fs::write(&config, without_handler(&text))?;
        node.end_containerd(Signal::SIGTERM)?;
        node.start_containerd()?;
        let bin_dir = format!("--bin-dir={}", node.folder().join("bin").display());
        let mut places = Self { node, places: Vec::new() }.common();
        places.extend([format!("--config={}", config.display()), bin_dir]);
        Ok(Self { node, places })
    }

    /// On a node whose configuration is k3s': its data directory is in the node's folder.
    pub fn on_k3s(node: &'node Node, data_dir: &Path) -> Self {
        let mut places = Self { node, places: Vec::new() }.common();
        places.push(format!("--data-dir={}", data_dir.display()));
        Self { node, places }
    }

    fn common(&self) -> Vec<String> {
        let folder = self.node.folder();
        let restart = self.restart_command();
        vec![
            format!("--socket={}", self.node.socket().display()),
            format!("--containerd={}", self.node.containerd.program.display()),
            format!("--state-dir={}", folder.join("installer/state").display()),
            format!("--restart-command={restart}"),
            "--restart-timeout=5".into(),
        ]
    }

    /// What a node's administrator would type to restart containerd, in place of systemctl.
    pub fn restart_command(&self) -> String {
        format!("touch {0} && while [ -e {0} ]; do sleep 0.02; done", self.request().display())
    }

    fn request(&self) -> PathBuf {
        self.node.folder().join("restart")
    }

    /// The command line of `install`, or of another command.
    pub fn words(&self, words: &[&str]) -> Vec<String> {
        let is_install = words.first() == Some(&"install");
        let fits = |place: &&String| is_install || !place.starts_with("--bin-dir");
        let places = self.places.iter().filter(fits).cloned();
        words.iter().map(|&word| word.to_owned()).chain(places).collect()
    }

    /// Runs the installer, and restarts containerd when it asks for that.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        self.while_restarting(|| command::run(program(), self.words(words)))
    }

    /// Runs an installer that has to succeed.
    pub fn must(&self, words: &[&str]) -> Result<String> {
        let done = self.run(words)?.success().with_context(|| words.join(" "));
        Ok(done?.stdout)
    }

    /// Does something while containerd is restarted whenever that is asked for. One that ends at once has been started.
    pub fn while_restarting<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let serving = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    if self.request().exists() {
                        self.restart()?;
                    }
                    sleep(INTERVAL);
                }
                Ok(())
            });
            let done = work();
            is_over.store(true, Ordering::Relaxed);
            let served: Result<()> = serving.join().expect("no panic");
            served.and(done)
        })
    }

    fn restart(&self) -> Result<()> {
        if self.node.daemon_pid().is_some() {
            self.node.end_containerd(Signal::SIGTERM)?;
        }
        if self.node.start_containerd().is_err() {
            // It has ended, as one of systemd's would.
            self.node.forget_containerd();
        }
        Ok(fs::remove_file(self.request())?)
    }
}

/// A configuration without the handler `wasmtime`: its three lines.
pub fn without_handler(text: &str) -> String {
    let mut kept = String::new();
    let mut is_in = false;
    for line in text.split_inclusive('\n') {
        if line.starts_with('[') {
            is_in = line.contains("containerd.runtimes.wasmtime]");
        }
        if !is_in {
            kept += line;
        }
    }
    kept
}
