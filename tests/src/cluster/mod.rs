//! Kubernetes on one node: etcd, the control plane and a kubelet beside the node's containerd, as plain processes.
//!
//! - this file: a cluster, as its user sees it;
//! - `control_plane`, `kubelet`: its parts, each a `component`;
//! - `left`: a cluster that stays when the program ends.
//!
//! Everything is in the node's directory and on loopback ports that were free. Pods reach each other over the node's
//! bridge. Services have no addresses. An existing cluster can be used instead.

mod component;
mod control_plane;
mod kubelet;
mod left;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};

use self::component::{Component, Ports, program};
use crate::command::{self, Output};
use crate::containerd::{Containerd, repository};
use crate::namespace::Namespace;
use crate::wait::{self, EVENTUALLY};
use crate::{Node, cgroups};

pub use self::kubelet::POD_PIDS;
pub use self::left::Left;

/// Name of the node, and host name under which the API server reaches its kubelet.
pub const NODE: &str = "localhost";

/// Variable with the kubeconfig of an existing cluster to use.
const EXISTING: &str = "WASMTIME_SHIM_TEST_KUBECONFIG";

/// Variable with the registry of that cluster's sample images. Without it, its nodes must have them as
/// `registry.example`.
const REGISTRY: &str = "WASMTIME_SHIM_TEST_REGISTRY";

/// Name of the file in the node's directory.
const KUBECONFIG: &str = "kubeconfig";

/// Prefix of the images in the manifests of stories.
const SAMPLES: &str = "registry.example/samples";

/// Label of the namespaces that are made here.
const MADE_HERE: &str = "wasmtime-shim-tests=true";

/// Programs of a cluster, besides containerd.
const PROGRAMS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
    "helm",
];

/// A cluster. The caller that started it must call [`Cluster::stop`].
#[derive(Debug)]
pub struct Cluster {
    components: Mutex<Vec<Component>>,
    /// Path of the kubeconfig.
    pub kubeconfig: PathBuf,
    /// The node, if it is this machine. It is dropped after the components, because they run on it.
    node: Option<Node>,
}

impl Cluster {
    /// Returns the cluster that `WASMTIME_SHIM_TEST_KUBECONFIG` names. Without the variable, starts one on the newest
    /// containerd.
    pub fn existing_or_new() -> Result<Self> {
        match env::var_os(EXISTING) {
            Some(kubeconfig) => Self::existing(Path::new(&kubeconfig)),
            None => {
                let containerd =
                    Containerd::available()?.pop().context("there is no containerd")?;
                Self::on(Node::start(containerd)?)
            }
        }
    }

    /// Returns whether there is a cluster, or the programs for one. If a containerd 2.x is required, the programs are
    /// required too, because Go builds both.
    pub fn is_possible() -> Result<bool> {
        if env::var_os(EXISTING).is_some() {
            return Ok(true);
        }
        let missing = PROGRAMS.into_iter().find_map(|name| program(name).err());
        match missing {
            Some(missing) if Containerd::is_wanted(2) => Err(missing),
            missing => Ok(missing.is_none()),
        }
    }

    /// Starts a cluster on a node, and waits until it is Ready.
    pub fn on(node: Node) -> Result<Self> {
        let kubeconfig = node.folder.join(KUBECONFIG);
        let cluster = Self { components: Mutex::default(), kubeconfig, node: Some(node) };
        let ports = Ports::free()?;
        cluster.start_control_plane(&ports)?;
        cluster.start_kubelet(&ports)?;
        cluster.must(&["apply", "-f", &manifest("runtimeclass.yaml")])?;
        cluster.until("the node to be Ready", || cluster.is_node_ready())?;
        Ok(cluster)
    }

    fn existing(kubeconfig: &Path) -> Result<Self> {
        // A missing file is an error here, because kubectl would use a cluster on port 8080 instead. The path is
        // relative to the repository, from which users start the tests; the tests themselves run in the directory of
        // their package.
        let kubeconfig = repository().join(kubeconfig).canonicalize();
        let kubeconfig = kubeconfig.with_context(|| format!("{EXISTING} names no file"))?;
        let cluster = Self { components: Mutex::default(), kubeconfig, node: None };
        cluster.must(&["get", "runtimeclass", "wasmtime"])?;
        Ok(cluster)
    }

    /// Returns the node, if it is this machine.
    pub fn node(&self) -> Result<&Node> {
        self.node.as_ref().context("the cluster's nodes are other machines")
    }

    /// Returns whether the only node is this machine.
    pub fn is_local(&self) -> bool {
        self.node.is_some()
    }

    /// Makes a namespace for a story.
    pub fn namespace(&self, name: &str) -> Result<Namespace<'_>> {
        self.must(&["create", "namespace", name])?;
        self.must(&["label", "namespace", name, MADE_HERE])?;
        let namespace = Namespace { cluster: self, name: name.to_owned() };
        // Where Pods have service accounts, a Pod that comes earlier is refused.
        self.until("the service account", || {
            Ok(!namespace.must(&["get", "serviceaccounts", "--output=name"])?.is_empty())
        })?;
        Ok(namespace)
    }

    /// Deletes the namespaces that were made. If the cluster was started here, ends all of it, and fails with the name
    /// of everything that is left.
    pub fn stop(self) -> Result<()> {
        self.must(&["delete", "namespaces", "--selector", MADE_HERE, "--timeout=85s"])?;
        let Some(node) = self.node else { return Ok(()) };
        let mut components = self.components.into_inner().unwrap_or_default();
        // kubelet must end first, because it would start again what is ended before it.
        while let Some(mut component) = components.pop() {
            component.end()?;
        }
        // kubelet makes its directory a mount. After a restart, it mounts once more on top of it.
        while umount2(&node.folder.join("kubelet"), MntFlags::MNT_DETACH).is_ok() {}
        cgroups::remove_tree(&node.cgroup_parent())?;
        node.remove_pods()?;
        node.stop()
    }

    /// Returns the API server's URL.
    pub fn server(&self) -> Result<String> {
        self.must(&["config", "view", "--output=jsonpath={.clusters[0].cluster.server}"])
    }

    /// Runs Helm.
    pub fn helm(&self, words: &[&str]) -> Result<Output> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig.display());
        command::run(program("helm")?, [kubeconfig.as_str()].iter().chain(words).copied())
    }

    /// Runs kubectl.
    pub fn kubectl(&self, words: &[&str]) -> Result<Output> {
        kubectl(&self.kubeconfig, words)
    }

    /// Runs a kubectl that must succeed, and returns its output.
    pub fn must(&self, words: &[&str]) -> Result<String> {
        let output = self.kubectl(words)?.success();
        Ok(output.with_context(|| format!("kubectl {}", words.join(" ")))?.stdout)
    }

    /// Returns a kubectl command, to which the caller adds arguments.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut command = Command::new(program("kubectl")?);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        Ok(command)
    }

    /// Replaces the images in a text of a story by those of this cluster.
    pub fn with_images(&self, text: &str) -> String {
        if self.is_local() {
            return text.to_owned();
        }
        let registry = env::var(REGISTRY).unwrap_or_else(|_| SAMPLES.to_owned());
        let text = text.replace(SAMPLES, registry.trim_end_matches('/'));
        text.replace("imagePullPolicy: Never", "imagePullPolicy: IfNotPresent")
    }

    /// Waits until a condition holds. On a timeout, the error names the components that have ended.
    pub fn until(&self, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        wait::until(EVENTUALLY, what, || {
            self.is_alive()?;
            Ok(is_so()?.then_some(()))
        })
    }

    fn is_alive(&self) -> Result<()> {
        self.components().iter().try_for_each(Component::is_alive)
    }

    fn components(&self) -> MutexGuard<'_, Vec<Component>> {
        self.components.lock().expect("no thread panics while holding the components")
    }

    fn start_component(&self, name: &'static str, flags: Vec<String>) -> Result<()> {
        let component = Component::start(name, flags, &self.node()?.folder)?;
        self.components().push(component);
        Ok(())
    }

    /// Returns the path of a file in the node's directory.
    fn path(&self, name: &str) -> Result<String> {
        Ok(self.node()?.folder.join(name).display().to_string())
    }

    fn is_node_ready(&self) -> Result<bool> {
        let path = "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        Ok(self.must(&["get", "node", NODE, "--ignore-not-found", path])? == "True")
    }
}

fn kubectl(kubeconfig: &Path, words: &[&str]) -> Result<Output> {
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let words = words.iter().copied();
    command::run(program("kubectl")?, [kubeconfig.as_str()].into_iter().chain(words))
}

/// Returns the path of a manifest that users apply as well.
pub fn manifest(name: &str) -> String {
    repository().join("manifests").join(name).display().to_string()
}
