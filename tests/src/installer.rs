//! `node-installer` on a node of the tests: as an administrator runs it, with the node's own places in place of a
//! distribution's.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
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

/// systemd's directory of units, and the one in a node's folder that takes its place.
const UNITS: &str = "/etc/systemd/system";
const OWN_UNITS: &str = "units";

/// How long a process that stands in for the node's first one may be there, in seconds.
const LIMIT: &str = "600";

/// A process whose mount namespace the installer of a DaemonSet enters, in place of that of process 1: there, systemd's
/// directory of units is one in the node's folder. Dropped, it is ended.
#[derive(Debug)]
pub struct HostProcess {
    child: Child,
    units: PathBuf,
}

impl HostProcess {
    /// Starts one.
    pub fn start(node: &Node) -> Result<Self> {
        let units = node.folder().join(OWN_UNITS);
        fs::create_dir_all(&units)?;
        let script = "mount --bind \"$0\" \"$1\" && echo ready && exec sleep \"$2\"";
        // What is unmounted elsewhere is to be unmounted here as well.
        let mut child = Command::new("unshare")
            .args(["--mount", "--propagation=slave", "sh", "-c", script])
            .arg(&units)
            .args([UNITS, LIMIT])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().context("no output")?;
        let process = Self { child, units };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(line == "ready\n", "cannot mount {} on {UNITS}", process.units.display());
        Ok(process)
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether anything is in its directory of units.
    pub fn has_units(&self) -> Result<bool> {
        Ok(fs::read_dir(&self.units)?.next().is_some())
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The variables of containerd's service that are in those units, as systemd would give them to containerd.
pub(crate) fn variables(folder: &Path) -> Result<Vec<(String, String)>> {
    let file = folder.join(OWN_UNITS).join("containerd.service.d/10-wasmtime-shim.conf");
    let text = if file.exists() { fs::read_to_string(file)? } else { String::new() };
    let lines = text.lines().filter_map(|line| line.strip_prefix("Environment=\""));
    let pairs = lines.filter_map(|line| line.strip_suffix('"')?.split_once('='));
    Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
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
