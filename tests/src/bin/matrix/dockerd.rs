//! Runs dockerd on a node's containerd, with its image store, to see what `docker run` does with an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::containerd::repository;
use tests::wait::{self, SOON};
use tests::{Node, command};

use crate::attempt::{COMMAND, Outcome, said};
use crate::forms::Form;

/// The daemon of one node. The caller that started it must end it before the node.
pub struct Dockerd {
    folder: PathBuf,
    child: Child,
    /// Whether another dockerd is or was on the machine.
    has_plugins: bool,
}

/// Directories in which it looks for plugins. It creates them wherever its other files are.
const PLUGINS: [&str; 2] = ["/run/docker/plugins", "/run/docker"];

/// Returns a program that `make matrix` builds.
fn program(name: &str) -> PathBuf {
    repository().join("target/go/moby").join(name)
}

impl Dockerd {
    /// Starts it with a socket and files in the node's directory.
    pub fn start(node: &Node) -> Result<Self> {
        let folder = node.folder().join("docker");
        fs::create_dir(&folder)?;
        fs::write(folder.join("daemon.json"), "{}")?;
        let path = |name: &str| folder.join(name).display().to_string();
        let mut dockerd = Command::new(program("dockerd"));
        dockerd.args(["--containerd", &node.socket().display().to_string()]);
        dockerd.args(["--host", &host(&folder), "--config-file", &path("daemon.json")]);
        dockerd.args(["--data-root", &path("data"), "--exec-root", &path("run")]);
        dockerd.args(["--pidfile", &path("pid"), "--cgroup-parent", &node.cgroup_parent()]);
        dockerd.args(["--bridge", "none", "--iptables=false", "--ip6tables=false"]);
        dockerd.args(["--ip-forward=false", "--userland-proxy=false"]);
        let has_plugins = Path::new(PLUGINS[1]).exists();
        let child = command::daemon(&mut dockerd, &folder, &folder.join("log"))?;
        let mut daemon = Self { folder, child, has_plugins };
        wait::until(SOON, "dockerd to answer", || {
            let ended = daemon.child.try_wait()?;
            ensure!(ended.is_none(), "dockerd ended: see its log");
            Ok(daemon.docker(&["version"])?.success().ok())
        })?;
        Ok(daemon)
    }

    /// Pulls and runs a form.
    pub fn attempt(&self, registry: &str, form: &Form, made: &Result<(), String>) -> Outcome {
        match made {
            Ok(()) => Outcome::of(self.run(registry, form)),
            Err(why) => Outcome::NotMade(why.clone()),
        }
    }

    fn run(&self, registry: &str, form: &Form) -> Result<()> {
        let remote = format!("{registry}/{}:1", form.image);
        let mut words = vec!["run", "--rm", "--quiet", "--network", "none"];
        words.extend(["--runtime", "io.containerd.wasmtime.v1"]);
        words.extend(form.platform.iter().flat_map(|it| ["--platform", it]));
        words.push(&remote);
        if form.needs_command {
            words.push(COMMAND);
        }
        said(form, &self.docker(&words)?)
    }

    fn docker(&self, words: &[&str]) -> Result<command::Output> {
        let config = self.folder.display().to_string();
        let host = host(&self.folder);
        let fixed = ["--config", &config, "--host", &host];
        command::run(program("docker"), fixed.iter().chain(words))
    }

    /// Ends the daemon.
    pub fn stop(mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        wait::until(SOON, "dockerd to end", || Ok(self.child.try_wait()?)).map(drop)
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        // A daemon that has ended by itself cannot be killed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.has_plugins {
            // A directory that is in use is not empty, and stays.
            for folder in PLUGINS {
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

fn host(folder: &Path) -> String {
    format!("unix://{}", folder.join("s").display())
}
