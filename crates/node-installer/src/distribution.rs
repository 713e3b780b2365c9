//! Kubernetes distributions: the files by which each is recognised, and the paths of its containerd.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::tree::Tree;

/// Distribution of Kubernetes on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Distribution {
    /// k0s, <https://docs.k0sproject.io/stable/runtime/>.
    K0s,
    /// RKE2, server or agent, <https://docs.rke2.io/advanced>.
    Rke2 {
        /// Whether the node is part of the control plane.
        server: bool,
    },
    /// k3s, server or agent, <https://docs.k3s.io/advanced>.
    K3s {
        /// Whether the node is part of the control plane.
        server: bool,
    },
    /// k3s in a container, without systemd, <https://k3d.io>.
    K3d,
    /// MicroK8s, <https://microk8s.io/docs/configuring-services>.
    MicroK8s,
    /// kind, <https://kind.sigs.k8s.io>.
    Kind,
    /// minikube with containerd, <https://minikube.sigs.k8s.io>.
    Minikube,
    /// Amazon EKS, <https://github.com/awslabs/amazon-eks-ami>.
    Eks,
    /// Azure AKS, <https://github.com/Azure/AgentBaker>.
    Aks,
    /// Google GKE on Container-Optimized OS.
    Gke,
    /// kubeadm, or a distribution that is built on it.
    Kubeadm,
    /// A containerd without any of these.
    Containerd,
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Distribution::K0s => "k0s",
            Distribution::Rke2 { server: true } => "RKE2 server",
            Distribution::Rke2 { server: false } => "RKE2 agent",
            Distribution::K3s { server: true } => "k3s server",
            Distribution::K3s { server: false } => "k3s agent",
            Distribution::K3d => "k3d",
            Distribution::MicroK8s => "MicroK8s",
            Distribution::Kind => "kind",
            Distribution::Minikube => "minikube",
            Distribution::Eks => "EKS",
            Distribution::Aks => "AKS",
            Distribution::Gke => "GKE",
            Distribution::Kubeadm => "kubeadm",
            Distribution::Containerd => "containerd",
        })
    }
}

/// Location of the handler's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandlerLocation {
    /// The file that containerd reads, or a file beside it.
    File(PathBuf),
    /// The directory from which k3s and RKE2 generate that file.
    Rancher(PathBuf),
    /// k0s' directory of drop-ins, unless the user manages the file.
    K0s,
}

/// The service that restarts containerd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// systemd, with this unit.
    Systemd(&'static str),
    /// k0s, which watches its drop-ins.
    ByItself,
    /// None: the container that is the node must be restarted.
    Container,
}

/// Paths of a distribution's containerd.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The distribution.
    pub distribution: Distribution,
    /// Location of the handler's configuration.
    pub location: HandlerLocation,
    /// Socket of containerd.
    pub socket: PathBuf,
    /// Possible paths of its program, the likeliest first.
    pub programs: Vec<PathBuf>,
    /// Possible directories for the shim, the best first.
    pub bin_dirs: Vec<PathBuf>,
    /// The service that restarts containerd.
    pub service: Service,
}

/// Directories for shims on most nodes. `/opt` is writable on nodes where `/usr` is not.
const BIN_DIRS: [&str; 2] = ["/usr/local/bin", "/opt/wasmtime-shim/bin"];

/// Paths of containerd in distributions that package it.
const PROGRAMS: [&str; 3] =
    ["/usr/bin/containerd", "/usr/local/bin/containerd", "/opt/bin/containerd"];

impl Layout {
    /// Returns the layout of the distribution to which a tree of files belongs. If a data directory is given, it is
    /// that of k3s or RKE2.
    pub fn of(tree: &Tree, data_dir: Option<&Path>) -> Self {
        let distribution =
            data_dir.map_or_else(|| Distribution::of(tree), |dir| Distribution::at(tree, dir));
        let rancher = |name| {
            data_dir.map_or_else(|| Path::new("/var/lib/rancher").join(name), Path::to_owned)
        };
        let mut layout = Self::usual(distribution);
        match distribution {
            Distribution::K3s { server: true } => layout.rancher(&rancher("k3s"), "k3s"),
            Distribution::K3s { server: false } => layout.rancher(&rancher("k3s"), "k3s-agent"),
            Distribution::K3d => {
                layout.rancher(&rancher("k3s"), "k3s");
                layout.service = Service::Container;
            }
            Distribution::Rke2 { server: true } => layout.rancher(&rancher("rke2"), "rke2-server"),
            Distribution::Rke2 { server: false } => layout.rancher(&rancher("rke2"), "rke2-agent"),
            Distribution::K0s => layout.k0s(),
            Distribution::MicroK8s => layout.microk8s(),
            Distribution::Gke => layout.bin_dirs = vec!["/home/kubernetes/bin".into()],
            _ => {}
        }
        layout
    }

    fn usual(distribution: Distribution) -> Self {
        Self {
            distribution,
            location: HandlerLocation::File("/etc/containerd/config.toml".into()),
            socket: "/run/containerd/containerd.sock".into(),
            programs: PROGRAMS.map(PathBuf::from).to_vec(),
            bin_dirs: BIN_DIRS.map(PathBuf::from).to_vec(),
            service: Service::Systemd("containerd"),
        }
    }

    /// `k3s-killall.sh` and `rke2-killall.sh` only end shims below `data/*/bin`.
    fn rancher(&mut self, home: &Path, unit: &'static str) {
        self.location = HandlerLocation::Rancher(home.join("agent/etc/containerd"));
        self.socket = "/run/k3s/containerd/containerd.sock".into();
        self.programs = vec![home.join("data/current/bin/containerd"), home.join("bin/containerd")];
        self.bin_dirs = vec![home.join("data/wasmtime-shim/bin")];
        self.service = Service::Systemd(unit);
    }

    fn k0s(&mut self) {
        self.location = HandlerLocation::K0s;
        self.socket = "/run/k0s/containerd.sock".into();
        self.programs = vec!["/var/lib/k0s/bin/containerd".into()];
        self.service = Service::ByItself;
    }

    /// The edited text is a template whose variables are inside strings and numbers, so it is valid TOML.
    fn microk8s(&mut self) {
        self.location = HandlerLocation::File(MICROK8S.into());
        self.socket = "/var/snap/microk8s/common/run/containerd.sock".into();
        self.programs = vec!["/snap/microk8s/current/bin/containerd".into()];
        self.service = Service::Systemd("snap.microk8s.daemon-containerd");
    }
}

const MICROK8S: &str = "/var/snap/microk8s/current/args/containerd-template.toml";

impl Distribution {
    /// Returns the distribution with that data directory, by the directory's name.
    fn at(tree: &Tree, data_dir: &Path) -> Self {
        let server = tree.exists(&data_dir.join("server"));
        match data_dir.file_name().is_some_and(|name| name == "rke2") {
            true => Distribution::Rke2 { server },
            false => Distribution::K3s { server },
        }
    }

    /// Distributions that build on others come first. A kind node, for example, has kubeadm's files as well.
    fn of(tree: &Tree) -> Self {
        let has = |path: &str| tree.exists(Path::new(path));
        if has("/var/lib/k0s") || has("/etc/k0s") {
            return Distribution::K0s;
        }
        if has("/var/lib/rancher/rke2/agent") {
            return Distribution::Rke2 { server: has("/var/lib/rancher/rke2/server") };
        }
        if has("/var/lib/rancher/k3s/agent") {
            let in_container = has("/.dockerenv") && !has("/run/systemd/system");
            let server = has("/var/lib/rancher/k3s/server");
            return if in_container { Distribution::K3d } else { Distribution::K3s { server } };
        }
        let marks = [
            (MICROK8S, Distribution::MicroK8s),
            ("/kind/version", Distribution::Kind),
            ("/var/lib/minikube", Distribution::Minikube),
            ("/etc/eks", Distribution::Eks),
            ("/etc/kubernetes/azure.json", Distribution::Aks),
            ("/opt/azure/containers", Distribution::Aks),
            ("/home/kubernetes/bin", Distribution::Gke),
            ("/etc/kubernetes/kubelet.conf", Distribution::Kubeadm),
        ];
        let found = marks.into_iter().find(|(path, _)| has(path));
        found.map_or(Distribution::Containerd, |(_, distribution)| distribution)
    }
}
