//! The programs of a cluster, as plain processes.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::command;
use crate::containerd::repository;
use crate::wait::{self, SOON};

/// Number of log lines that are shown when a component has ended.
const LAST_LINES: usize = 5;

/// A process of the cluster. It is killed when this value is dropped.
#[derive(Debug)]
pub struct Component {
    /// Name of the program.
    pub name: &'static str,
    flags: Vec<String>,
    folder: PathBuf,
    child: Child,
}

impl Component {
    /// Starts the program in `folder`, which also gets its log.
    pub fn start(name: &'static str, flags: Vec<String>, folder: &Path) -> Result<Self> {
        let child = spawn(name, &flags, folder)?;
        Ok(Self { name, flags, folder: folder.to_owned(), child })
    }

    /// Fails if the component has ended. The error has the last errors of its log.
    pub fn is_alive(&self) -> Result<()> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        if stat.is_ok_and(|stat| !stat.contains(") Z ")) {
            return Ok(());
        }
        let log = fs::read_to_string(log(&self.folder, self.name)).unwrap_or_default();
        bail!("{} ended:\n{}", self.name, last_words(&log))
    }

    /// Asks the component to end, and kills it after a while.
    pub fn end(&mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        let ended =
            wait::until(SOON, &format!("{} to end", self.name), || Ok(self.child.try_wait()?));
        if ended.is_err() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }

    /// Ends the component and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.end()?;
        self.child = spawn(self.name, &self.flags, &self.folder)?;
        Ok(())
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        // A component that was ended cannot be killed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(name: &'static str, flags: &[String], folder: &Path) -> Result<Child> {
    let mut command = Command::new(program(name)?);
    command::daemon(command.args(flags), folder, &log(folder, name))
}

fn log(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.log"))
}

/// Returns the last lines with an error. If the log has none, returns the last lines.
fn last_words(log: &str) -> String {
    let is_error = |line: &&str| {
        let mut chars = line.chars();
        // klog's lines begin with a letter and the date.
        let klog = matches!(chars.next(), Some('E' | 'F'))
            && chars.next().is_some_and(|digit| digit.is_ascii_digit());
        let words = ["Error", "error", "panic", "fatal"];
        klog || words.iter().any(|word| line.starts_with(word))
    };
    let errors: Vec<_> = log.lines().filter(is_error).collect();
    let lines = if errors.is_empty() { log.lines().collect() } else { errors };
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// Returns the path of a program of the cluster: one built from `tests/cluster`, or the distribution's.
pub fn program(name: &str) -> Result<PathBuf> {
    let built = ["cluster", "charts"].map(|module| repository().join("target/go").join(module));
    let dirs = built.into_iter().chain(["/usr/bin".into()]);
    let found = dirs.map(|dir| dir.join(name)).find(|path| path.exists());
    found.with_context(|| format!("{name} does not exist; `make cluster-tools` builds it"))
}

/// Loopback ports.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    /// Port of etcd for clients.
    pub etcd: u16,
    /// Port of etcd for peers, of which it has none.
    pub etcd_peers: u16,
    /// Port of the API server.
    pub api: u16,
    /// Port of the controller manager.
    pub controllers: u16,
    /// Port of the scheduler.
    pub scheduler: u16,
    /// Port of kubelet for the API server.
    pub kubelet: u16,
    /// Port of kubelet's health check.
    pub kubelet_health: u16,
}

impl Ports {
    /// Finds ports that are free at the moment. Another program could still take them.
    pub fn free() -> Result<Self> {
        let listeners: Vec<_> =
            (0..7).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
        let port = |index: usize| Ok::<_, std::io::Error>(listeners[index].local_addr()?.port());
        Ok(Self {
            etcd: port(0)?,
            etcd_peers: port(1)?,
            api: port(2)?,
            controllers: port(3)?,
            scheduler: port(4)?,
            kubelet: port(5)?,
            kubelet_health: port(6)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::last_words;

    #[test]
    fn a_log_ends_in_its_errors() {
        let log = "I1121 started\nE1121 \"command failed\" err=\"port in use\"\nI1121 bye\n";
        assert_eq!(last_words(log), "E1121 \"command failed\" err=\"port in use\"");
        assert_eq!(last_words("one\ntwo\n"), "one\ntwo");
        assert_eq!(last_words("1\n2\n3\n4\n5\n6\n"), "2\n3\n4\n5\n6");
        assert_eq!(last_words(""), "");
    }
}
