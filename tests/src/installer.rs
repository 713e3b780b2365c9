//! Runs `node-installer` on a node of the tests, as an administrator would. The node's own paths replace those of a
//! distribution.

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

/// Interval between checks whether containerd must be restarted.
const INTERVAL: Duration = Duration::from_millis(20);

/// File in a node's directory that asks for a restart of containerd.
pub(crate) const REQUEST: &str = "restart";

/// Returns the installer of this build.
pub fn program() -> PathBuf {
    repository().join("target/release/node-installer")
}

/// A node without our handler, and a replacement for systemd.
#[derive(Debug)]
pub struct Installer<'node> {
    node: &'node Node,
    places: Vec<String>,
}

impl<'node> Installer<'node> {
    /// Removes the handler from the node's configuration.
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

    /// Makes the installer of a node whose configuration is that of k3s. Its data directory is in the node's directory.
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

    /// Returns the command that restarts containerd, instead of systemctl.
    pub fn restart_command(&self) -> String {
        format!("touch {0} && while [ -e {0} ]; do sleep 0.02; done", self.request().display())
    }

    fn request(&self) -> PathBuf {
        self.node.folder().join(REQUEST)
    }

    /// Returns the command line of `install` or another command.
    pub fn words(&self, words: &[&str]) -> Vec<String> {
        let is_install = words.first() == Some(&"install");
        let fits = |place: &&String| is_install || !place.starts_with("--bin-dir");
        let places = self.places.iter().filter(fits).cloned();
        words.iter().map(|&word| word.to_owned()).chain(places).collect()
    }

    /// Runs the installer, and restarts containerd when the installer asks for it.
    pub fn run(&self, words: &[&str]) -> Result<Output> {
        self.while_restarting(|| command::run(program(), self.words(words)))
    }

    /// Runs an installer that must succeed.
    pub fn must(&self, words: &[&str]) -> Result<String> {
        let done = self.run(words)?.success().with_context(|| words.join(" "));
        Ok(done?.stdout)
    }

    /// Installs that shim.
    pub fn install(&self, shim: &Path) -> Result<()> {
        self.must(&["install", &format!("--shim={}", shim.display())]).map(drop)
    }

    /// Does some work, and restarts containerd whenever that is requested. A containerd that ends at once counts as
    /// started.
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
            // It has ended, as a service of systemd would.
            self.node.forget_containerd();
        }
        Ok(fs::remove_file(self.request())?)
    }
}

/// systemd's directory of units. A directory in a node's directory replaces it.
const UNITS: &str = "/etc/systemd/system";
const OWN_UNITS: &str = "units";

/// Time limit of a process that replaces the node's process 1, in seconds.
const LIMIT: &str = "600";

/// A process whose mount namespace the installer of a DaemonSet enters instead of that of process 1. In it, a directory
/// in the node's directory replaces systemd's directory of units. The process is ended when this value is dropped.
#[derive(Debug)]
pub struct HostProcess {
    child: Child,
    units: PathBuf,
}

impl HostProcess {
    /// Starts a process.
    pub fn start(node: &Node) -> Result<Self> {
        let units = node.folder().join(OWN_UNITS);
        fs::create_dir_all(&units)?;
        let script = "mount --bind \"$0\" \"$1\" && echo ready && exec sleep \"$2\"";
        // A mount that is unmounted elsewhere must also disappear here.
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

    /// Returns its pid.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns whether its directory of units has any file.
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

/// Returns the variables of containerd's service in those units, as systemd would pass them to containerd.
pub(crate) fn variables(folder: &Path) -> Result<Vec<(String, String)>> {
    let file = folder.join(OWN_UNITS).join("containerd.service.d/10-wasmtime-shim.conf");
    let text = if file.exists() { fs::read_to_string(file)? } else { String::new() };
    let lines = text.lines().filter_map(|line| line.strip_prefix("Environment=\""));
    let pairs = lines.filter_map(|line| line.strip_suffix('"')?.split_once('='));
    Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// Ends of the names of a handler's tables.
const TABLES: [&str; 2] =
    ["containerd.runtimes.wasmtime]", "containerd.runtimes.wasmtime.options]"];

/// Returns a configuration without the handler `wasmtime` and its options.
pub fn without_handler(text: &str) -> String {
    let mut kept = String::new();
    let mut is_in = false;
    for line in text.split_inclusive('\n') {
        if line.starts_with('[') {
            is_in = TABLES.iter().any(|table| line.contains(table));
        }
        if !is_in {
            kept += line;
        }
    }
    kept
}
