//! Pods and containers that run on a node.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_cri::v1::{ContainerState, PodSandboxConfig};
use serde_json::Value;

use crate::command::{self, Output};
use crate::cri;
use crate::http::{self, Response};
use crate::logs::Logs;
use crate::processes::{self, Process};
use crate::wait::{self, EVENTUALLY, SOON};
use crate::{Container, Node, Pod};

/// A Pod that was started. Dropping it does not stop it; its node stops what is left.
#[derive(Debug)]
pub struct RunningPod<'node> {
    node: &'node Node,
    config: PodSandboxConfig,
    /// Id from containerd.
    pub id: String,
    /// Network namespace.
    pub network: PathBuf,
}

/// A container that was created.
#[derive(Debug)]
pub struct RunningContainer<'node> {
    node: &'node Node,
    log: PathBuf,
    /// Id from containerd.
    pub id: String,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, as `kubectl` shows it.
    pub code: i32,
    /// Reason, such as `Completed` or `Error`.
    pub reason: String,
    /// Termination message, or the error because of which the container did not start.
    pub message: String,
}

impl<'node> RunningPod<'node> {
    pub(crate) fn start(node: &'node Node, pod: &Pod, logs: &Path) -> Result<Self> {
        fs::create_dir_all(logs)?;
        let config = pod.config(logs, &node.cgroup_parent());
        let id = node.cri.run_pod(&pod.handler, config.clone())?;
        node.traces.watch("k8s.io", &id);
        let info = node.cri.pod_info(&id)?;
        let network = network_namespace(&info)?;
        Ok(Self { node, config, id, network })
    }

    /// Creates a container without starting it.
    pub fn create(&self, container: &Container) -> Result<RunningContainer<'node>> {
        let config = container.config();
        let log = Path::new(&self.config.log_directory).join(&config.log_path);
        let id = self.node.cri.create(&self.id, config, self.config.clone())?;
        self.node.traces.watch("k8s.io", &id);
        Ok(RunningContainer { node: self.node, log, id })
    }

    /// Creates a container and starts it.
    pub fn run(&self, container: &Container) -> Result<RunningContainer<'node>> {
        let container = self.create(container)?;
        container.start()?;
        Ok(container)
    }

    /// Sends a GET to a server in the Pod.
    pub fn http_get(&self, port: u16, path: &str) -> Result<Response> {
        http::get(&self.network, port, path)
    }

    /// As [`RunningPod::http_get`], with flags for curl.
    pub fn http_get_with(&self, port: u16, path: &str, flags: &[&str]) -> Result<Response> {
        http::send(&self.network, port, path, flags)
    }

    /// Sends a file to a server in the Pod.
    pub fn http_post(&self, port: u16, path: &str, file: &Path) -> Result<Response> {
        http::post(&self.network, port, path, file)
    }

    /// Returns its address in the Pods' network.
    pub fn address(&self) -> Result<String> {
        self.node.cri.pod_address(&self.id)
    }

    /// Limits the open files of each process that its containers get from now on. CRI has no such limit.
    pub fn limit_files(&self, files: u64) -> Result<()> {
        for process in processes::family(&self.shim()?) {
            command::must(&format!("prlimit --pid {} --nofile={files}:{files}", process.pid))?;
        }
        Ok(())
    }

    /// Returns its first process, which holds its namespaces.
    pub fn process(&self) -> Result<Process> {
        process_of(&self.node.cri.pod_info(&self.id)?)
    }

    /// Returns the process that serves the Pod's tasks to containerd.
    pub fn shim(&self) -> Result<Process> {
        processes::shim_of(&self.id)
    }

    /// Stops everything that is left in the Pod.
    pub fn stop(&self) -> Result<()> {
        self.node.cri.stop_pod(&self.id)
    }

    /// Removes the Pod after it was stopped.
    pub fn remove(&self) -> Result<()> {
        self.node.cri.remove_pod(&self.id)
    }

    /// Removes the Pod as kubelet does: it tries again until it succeeds. After a shim has died, containerd needs a
    /// moment, and a second look, to notice that its containers have ended.
    pub fn remove_in_the_end(&self) -> Result<()> {
        wait::until(SOON, "the Pod to be removed", || Ok(self.remove().ok()))
    }
}

impl RunningContainer<'_> {
    /// Starts the created container.
    pub fn start(&self) -> Result<()> {
        self.start_within(cri::LIMIT)
    }

    /// As [`RunningContainer::start`], with a time limit.
    pub fn start_within(&self, limit: Duration) -> Result<()> {
        self.node.cri.start(&self.id, limit)
    }

    /// Executes a command in the container, and waits for its end.
    pub fn exec(&self, command: &[&str]) -> Result<Output> {
        self.node.cri.exec_sync(&self.id, command, SOON)
    }

    /// As [`RunningContainer::exec`], with a time limit.
    pub fn exec_within(&self, limit: Duration, command: &[&str]) -> Result<Output> {
        self.node.cri.exec_sync(&self.id, command, limit)
    }

    /// Returns whether it runs.
    pub fn is_running(&self) -> Result<bool> {
        Ok(self.node.cri.status(&self.id)?.status.state() == ContainerState::ContainerRunning)
    }

    /// Returns its first process.
    pub fn process(&self) -> Result<Process> {
        process_of(&self.node.cri.status(&self.id)?.info)
    }

    /// Waits for its end.
    pub fn wait(&self) -> Result<Exit> {
        wait::until(EVENTUALLY, &format!("container {} to end", self.id), || {
            let status = self.node.cri.status(&self.id)?.status;
            let exited = status.state() == ContainerState::ContainerExited;
            Ok(exited.then_some(Exit {
                code: status.exit_code,
                reason: status.reason,
                message: status.message,
            }))
        })
    }

    /// Renames its log and makes containerd start another one, as kubelet does with a large log.
    pub fn rotate_log(&self) -> Result<()> {
        fs::rename(&self.log, self.log.with_extension("rotated"))?;
        self.node.cri.reopen_log(&self.id)
    }

    /// Returns what it has written so far.
    pub fn logs(&self) -> Result<Logs> {
        let text = fs::read_to_string(&self.log);
        Logs::parse(&text.with_context(|| self.log.display().to_string())?)
    }

    /// Returns the size of its log so far, in bytes.
    pub fn logged(&self) -> Result<u64> {
        Ok(fs::metadata(&self.log).with_context(|| self.log.display().to_string())?.len())
    }

    /// Waits until its standard output contains `text`.
    ///
    /// The output of a running container reaches its log some time later, and each stream independently.
    pub fn wait_for_output(&self, text: &str) -> Result<()> {
        self.wait_for_logs(text, |logs| logs.stdout.contains(text))
    }

    /// As [`RunningContainer::wait_for_output`], for its standard error.
    pub fn wait_for_error(&self, text: &str) -> Result<()> {
        self.wait_for_logs(text, |logs| logs.stderr.contains(text))
    }

    fn wait_for_logs(&self, text: &str, is_there: impl Fn(&Logs) -> bool) -> Result<()> {
        let what = format!("{text:?} in the log");
        wait::until(EVENTUALLY, &what, || Ok(is_there(&self.logs()?).then_some(())))
    }

    /// Stops it with that much time for its own clean-up, and returns how it ended.
    pub fn stop(&self, grace: Duration) -> Result<Exit> {
        self.node.cri.stop(&self.id, grace)?;
        self.wait()
    }

    /// Removes it after it has ended.
    pub fn remove(&self) -> Result<()> {
        self.node.cri.remove(&self.id)
    }
}

/// Parses the runtime's additional information on a Pod or container, which is one JSON text.
fn remarks(info: &HashMap<String, String>) -> Result<Value> {
    Ok(serde_json::from_str(info.get("info").context("containerd gives no info")?)?)
}

fn process_of(info: &HashMap<String, String>) -> Result<Process> {
    let pid = remarks(info)?["pid"].as_i64().context("no pid")?;
    Process::at(pid.try_into()?).with_context(|| format!("no process {pid}"))
}

fn network_namespace(info: &HashMap<String, String>) -> Result<PathBuf> {
    let info = remarks(info)?;
    let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array();
    let network = namespaces.into_iter().flatten().find(|space| space["type"] == "network");
    let path = network.and_then(|space| space["path"].as_str());
    Ok(path.context("the Pod has no network namespace")?.into())
}
