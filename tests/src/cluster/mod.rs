//! Kubernetes on one node: etcd, the control plane and a kubelet beside the node's containerd, as plain processes.
//!
//! - here: a cluster as its user has it;
//! - `control_plane`, `kubelet`: what it is made of, each a `component`;
//! - `left`: one that stays when the program ends.
//!
//! Everything is in the node's folder and on loopback ports that were free. Pods reach each other over the
//! node's bridge; Services have no addresses. A cluster that somebody else has made can take its place.

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

/// The node's name, and the host name under which the API server reaches its kubelet.
pub const NODE: &str = "localhost";

/// Names the kubeconfig of a cluster to use instead of one that is started.
const EXISTING: &str = "WASMTIME_SHIM_TEST_KUBECONFIG";

/// Where that cluster has the sample images, instead of `registry.example` (which its nodes may have them as).
const REGISTRY: &str = "WASMTIME_SHIM_TEST_REGISTRY";

/// In the node's folder.
const KUBECONFIG: &str = "kubeconfig";

/// Where the manifests of stories have their images.
const SAMPLES: &str = "registry.example/samples";

/// A label of the namespaces made here.
const MADE_HERE: &str = "wasmtime-shim-tests=true";

/// What a cluster consists of, beside its containerd.
const PROGRAMS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kubectl",
    "helm",
];

/// A cluster. As a node: whoever started it calls [`Cluster::stop`].
#[derive(Debug)]
pub struct Cluster {
    components: Mutex<Vec<Component>>,
    /// For kubectl.
    pub kubeconfig: PathBuf,
    /// Where it is this machine. Dropped after the components, which are on top of it.
    node: Option<Node>,
}

impl Cluster {
    /// The one that `WASMTIME_SHIM_TEST_KUBECONFIG` names, or else one that is started on the newest containerd there is.
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

    /// Whether there is one, or what one consists of. Where a containerd 2.x has to be there, it has to be as well:
    /// Go builds both.
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

    /// Starts one on a node, and waits until it is Ready.
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
        // Looked for here: kubectl takes what is not there for a cluster on port 8080. Tests run in their
        // package's folder, and who starts them is in the repository's.
        let kubeconfig = repository().join(kubeconfig).canonicalize();
        let kubeconfig = kubeconfig.with_context(|| format!("{EXISTING} names no file"))?;
        let cluster = Self { components: Mutex::default(), kubeconfig, node: None };
        cluster.must(&["get", "runtimeclass", "wasmtime"])?;
        Ok(cluster)
    }

    /// The machine under it, where that is this one.
    pub fn node(&self) -> Result<&Node> {
        self.node.as_ref().context("the cluster's nodes are other machines")
    }

    /// Whether its one node is this machine.
    pub fn is_local(&self) -> bool {
        self.node.is_some()
    }

    /// A namespace of its own for a story.
    pub fn namespace(&self, name: &str) -> Result<Namespace<'_>> {
        self.must(&["create", "namespace", name])?;
        self.must(&["label", "namespace", name, MADE_HERE])?;
        let namespace = Namespace { cluster: self, name: name.to_owned() };
        // A Pod that comes earlier is refused where Pods have service accounts.
        self.until("the service account", || {
            Ok(!namespace.must(&["get", "serviceaccounts", "--output=name"])?.is_empty())
        })?;
        Ok(namespace)
    }

    /// Deletes the namespaces that were made and, where it was started here, ends all of it and fails with the
    /// name of everything that is left.
    pub fn stop(self) -> Result<()> {
        self.must(&["delete", "namespaces", "--selector", MADE_HERE, "--timeout=85s"])?;
        let Some(node) = self.node else { return Ok(()) };
        let mut components = self.components.into_inner().unwrap_or_default();
        // The kubelet first: it would start what is ended after it.
        while let Some(mut component) = components.pop() {
            component.end()?;
        }
        // It makes its folder a mount, and each one that is started again does so on top of the last.
        while umount2(&node.folder.join("kubelet"), MntFlags::MNT_DETACH).is_ok() {}
        cgroups::remove_tree(&node.cgroup_parent())?;
        node.remove_pods()?;
        node.stop()
    }

    /// The API server's URL.
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

    /// Runs a kubectl that has to succeed, and returns its output.
    pub fn must(&self, words: &[&str]) -> Result<String> {
        let output = self.kubectl(words)?.success();
        Ok(output.with_context(|| format!("kubectl {}", words.join(" ")))?.stdout)
    }

    /// kubectl, for the caller to give it words, to start and to end.
    pub(crate) fn command(&self) -> Result<Command> {
        let mut command = Command::new(program("kubectl")?);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        Ok(command)
    }

    /// A text of a story, with the images where this cluster has them.
    pub fn with_images(&self, text: &str) -> String {
        if self.is_local() {
            return text.to_owned();
        }
        let registry = env::var(REGISTRY).unwrap_or_else(|_| SAMPLES.to_owned());
        let text = text.replace(SAMPLES, registry.trim_end_matches('/'));
        text.replace("imagePullPolicy: Never", "imagePullPolicy: IfNotPresent")
    }

    /// Asks until it is so; at the end says which component has died, if any.
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
        self.components.lock().expect("nobody panics while holding the components")
    }

    fn start_component(&self, name: &'static str, flags: Vec<String>) -> Result<()> {
        let component = Component::start(name, flags, &self.node()?.folder)?;
        self.components().push(component);
        Ok(())
    }

    /// The path of a file in the node's folder.
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

/// The path of a manifest that users apply as well.
pub fn manifest(name: &str) -> String {
    repository().join("manifests").join(name).display().to_string()
}
