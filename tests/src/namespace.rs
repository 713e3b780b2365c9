//! A namespace of a cluster, used as from a terminal.

use std::fs;
use std::io::Write;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::background::Background;
use crate::cluster::Cluster;
use crate::command::{self, Output};

/// A namespace.
#[derive(Debug, Clone)]
pub struct Namespace<'cluster> {
    /// The cluster.
    pub cluster: &'cluster Cluster,
    /// Name of the namespace.
    pub name: String,
}

impl Namespace<'_> {
    /// Runs kubectl in it.
    pub fn kubectl(&self, words: &[&str]) -> Result<Output> {
        self.cluster.kubectl(&[&["--namespace", self.name.as_str()], words].concat())
    }

    /// Runs a kubectl that must succeed, and returns its output.
    pub fn must(&self, words: &[&str]) -> Result<String> {
        let output = self.kubectl(words)?.success();
        Ok(output.with_context(|| format!("kubectl {}", words.join(" ")))?.stdout)
    }

    /// Runs kubectl with that text on its standard input.
    pub fn kubectl_with_input(&self, words: &[&str], input: &str) -> Result<Output> {
        let kubectl = self.command(words)?;
        command::run_and_feed(kubectl.get_program(), kubectl.get_args(), |mut pipe| {
            // It is no error here if kubectl ends without reading. The exit code shows it.
            let _ = pipe.write_all(input.as_bytes());
        })
    }

    /// Runs kubectl on a terminal, on which the text is typed. Its output has the terminal's line ends.
    pub fn kubectl_at_terminal(&self, words: &[&str], typed: &str) -> Result<Output> {
        let kubectl = self.command(words)?;
        let words = [kubectl.get_program()].into_iter().chain(kubectl.get_args());
        let line: Vec<_> = words
            .map(|word| format!("'{}'", word.to_string_lossy().replace('\'', "'\\''")))
            .collect();
        let script = ["--quiet", "--return", "--command", &line.join(" "), "/dev/null"];
        command::run_and_feed("script", script, |mut pipe| {
            let _ = pipe.write_all(typed.as_bytes());
        })
    }

    /// Starts a kubectl that serves a port.
    pub fn background(&self, words: &[&str]) -> Result<Background> {
        Background::start(&self.command(words)?)
    }

    fn command(&self, words: &[&str]) -> Result<Command> {
        let mut command = self.cluster.command()?;
        command.args(["--namespace", &self.name]).args(words);
        Ok(command)
    }

    /// Applies manifests as a user wrote them.
    pub fn apply(&self, yaml: &str) -> Result<()> {
        let file = tempfile::NamedTempFile::new()?;
        fs::write(&file, self.cluster.with_images(yaml))?;
        self.must(&["apply", "-f", &file.path().display().to_string()]).map(drop)
    }

    /// Returns a Pod as the API server has it, or null if there is none.
    pub fn pod(&self, name: &str) -> Result<Value> {
        let text = self.must(&["get", "pod", name, "--ignore-not-found", "--output=json"])?;
        if text.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_str(&text)?) }
    }

    /// Returns the first container's part of a Pod's status.
    pub fn container(&self, pod: &str) -> Result<Value> {
        Ok(self.pod(pod)?["status"]["containerStatuses"][0].clone())
    }

    /// Returns how the Pod's first container ended.
    pub fn ended(&self, name: &str) -> Result<Value> {
        let pod = self.pod(name)?;
        Ok(pod["status"]["containerStatuses"][0]["state"]["terminated"].clone())
    }

    /// Sends a GET to a server in the Pod, through the API server, and returns the answer.
    pub fn http_get(&self, pod: &str, port: u16, path: &str) -> Result<String> {
        let pods = format!("/api/v1/namespaces/{}/pods", self.name);
        self.must(&["get", &format!("--raw={pods}/{pod}:{port}/proxy{path}")])
    }

    /// Waits until the Pod is Ready.
    pub fn until_ready(&self, pod: &str) -> Result<()> {
        self.until_pod(pod, "to be Ready", |pod| {
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True")
        })
    }

    /// Waits until the Pod has that phase.
    pub fn until_phase(&self, pod: &str, phase: &str) -> Result<()> {
        self.until_pod(pod, &format!("to be {phase}"), |pod| pod["status"]["phase"] == phase)
    }

    /// Waits until a condition holds for the Pod.
    pub fn until_pod(&self, pod: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<()> {
        self.until(&format!("Pod {pod} {what}"), || Ok(is_so(&self.pod(pod)?)))
    }

    /// Waits until a condition holds. On a timeout, the error describes the Pods.
    pub fn until(&self, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        let waited = self.cluster.until(what, is_so);
        waited.with_context(|| self.must(&["describe", "pods"]).unwrap_or_default())
    }

    /// Returns the messages of the Pod's events.
    pub fn events(&self, pod: &str) -> Result<String> {
        let selector = format!("--field-selector=involvedObject.name={pod}");
        self.must(&["get", "events", &selector, "--output=jsonpath={.items[*].message}"])
    }
}
