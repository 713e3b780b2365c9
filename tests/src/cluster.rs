//! Kubernetes on one node: etcd, the control plane and a kubelet beside the node's containerd, as plain processes.
//!
//! Everything is in the node's folder and on loopback ports that were free. Pods reach each other over the
//! node's bridge; there are no Services.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::command::{self, Output};
use crate::containerd::{Containerd, repository};
use crate::namespace::Namespace;
use crate::traces::Traces;
use crate::wait::{self, EVENTUALLY, SOON};
use crate::{Node, cgroups, config, cri};

/// The node's name, and the host name under which the API server reaches its kubelet.
pub const NODE: &str = "localhost";

/// Files in the record of a cluster that was left running.
const KUBECONFIG: &str = "kubeconfig";
const FOLDER: &str = "folder";

/// Pods, and what would make them anew.
const DELETE_ALL: [&str; 5] =
    ["delete", "cronjobs,jobs,deployments,pods", "--all", "--all-namespaces", "--timeout=60s"];

/// The one user.
const TOKEN: &str = "wasmtime-shim-tests";

/// A cluster. As a node: whoever started it calls [`Cluster::stop`].
#[derive(Debug)]
pub struct Cluster {
    components: Vec<Component>,
    /// For kubectl.
    pub kubeconfig: PathBuf,
    /// Its containerd. Dropped after the components, which are on top of it.
    pub node: Node,
}

/// A cluster that was left running by a program that has ended.
#[derive(Debug)]
pub struct Left {
    folder: PathBuf,
    record: PathBuf,
}

impl Left {
    /// The one that the record tells of, if any.
    pub fn find(record: &Path) -> Option<Self> {
        let folder = fs::read_to_string(record.join(FOLDER)).ok()?.into();
        Some(Self { folder, record: record.to_owned() })
    }

    /// For kubectl. It is outside the node's folder, whose name must not come into a user's environment: what
    /// bears it is ended with the node.
    pub fn kubeconfig(&self) -> PathBuf {
        self.record.join(KUBECONFIG)
    }

    /// Whether its API server answers.
    pub fn is_up(&self) -> bool {
        kubectl(&self.kubeconfig(), &["get", "--raw=/readyz"]).is_ok_and(|output| output.code == 0)
    }

    /// Ends it with all that runs on it, and returns what is left all the same.
    pub fn end(self) -> Result<Vec<String>> {
        fs::remove_dir_all(&self.record)?;
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let traces = Traces::new(&name, &self.folder);
        // Sockets of shims have no other name than their Pod's.
        let cri = cri::Client::new(&config::socket(&self.folder))?;
        for pod in cri.pods().unwrap_or_default() {
            traces.watch(crate::node::KUBERNETES, &pod);
        }
        traces.wipe();
        Ok(traces.find(None))
    }
}

/// A process of the cluster.
#[derive(Debug)]
struct Component {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// Loopback ports.
struct Ports {
    etcd: u16,
    etcd_peers: u16,
    api: u16,
    controllers: u16,
    scheduler: u16,
    kubelet: u16,
    kubelet_health: u16,
}

impl Cluster {
    /// Starts all of it, on the newest containerd there is, and waits until the node is Ready.
    pub fn start() -> Result<Self> {
        let containerd = Containerd::available()?.pop().context("there is no containerd")?;
        Self::on(Node::start(containerd)?)
    }

    /// The same on a node that is there.
    pub fn on(node: Node) -> Result<Self> {
        let kubeconfig = node.folder.join(KUBECONFIG);
        let mut cluster = Self { components: Vec::new(), kubeconfig, node };
        let ports = Ports::free()?;
        cluster.start_control_plane(&ports)?;
        cluster.start_kubelet(&ports)?;
        cluster.must(&["apply", "-f", &manifest("runtimeclass.yaml")])?;
        cluster.until("the node to be Ready", || cluster.is_node_ready())?;
        Ok(cluster)
    }

    /// Leaves all of it running, for [`Left::end`] to end, and says so in `record`.
    pub fn leave(self, record: &Path) -> Result<Left> {
        fs::create_dir_all(record)?;
        fs::copy(&self.kubeconfig, record.join(KUBECONFIG))?;
        fs::write(record.join(FOLDER), self.node.folder.display().to_string())?;
        let folder = self.node.folder.clone();
        std::mem::forget(self);
        Ok(Left { folder, record: record.to_owned() })
    }

    /// A namespace of its own for a story.
    pub fn namespace(&self, name: &str) -> Result<Namespace<'_>> {
        self.must(&["create", "namespace", name])?;
        Ok(Namespace { cluster: self, name: name.to_owned() })
    }

    /// Deletes all Pods, ends all of it and fails with the name of everything that is left.
    pub fn stop(mut self) -> Result<()> {
        self.must(&DELETE_ALL)?;
        // The kubelet first: it would start what is ended after it.
        while let Some(mut component) = self.components.pop() {
            component.end()?;
        }
        // It makes its folder a mount, and leaves that to the next one.
        umount2(&self.node.folder.join("kubelet"), MntFlags::MNT_DETACH)?;
        cgroups::remove_tree(&self.node.cgroup_parent())?;
        self.node.remove_pods()?;
        self.node.stop()
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

    /// Asks until it is so; at the end says which component has died, if any.
    pub fn until(&self, what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
        wait::until(EVENTUALLY, what, || {
            self.components.iter().try_for_each(Component::is_alive)?;
            Ok(is_so()?.then_some(()))
        })
    }

    fn is_node_ready(&self) -> Result<bool> {
        let path = "--output=jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        Ok(self.must(&["get", "node", NODE, "--ignore-not-found", path])? == "True")
    }

    fn start_control_plane(&mut self, ports: &Ports) -> Result<()> {
        let folder = self.node.folder.clone();
        let path = |name: &str| folder.join(name).display().to_string();
        let etcd = format!("http://127.0.0.1:{}", ports.etcd);
        let peers = format!("http://127.0.0.1:{}", ports.etcd_peers);
        self.start_component(
            "etcd",
            &[
                &format!("--data-dir={}", path("etcd")),
                &format!("--listen-client-urls={etcd}"),
                &format!("--advertise-client-urls={etcd}"),
                &format!("--listen-peer-urls={peers}"),
                &format!("--initial-advertise-peer-urls={peers}"),
                &format!("--initial-cluster=default={peers}"),
            ],
        )?;
        command::must(&format!("openssl genrsa -out {} 2048", path("service-accounts.key")))?;
        fs::write(path("tokens.csv"), format!("{TOKEN},admin,admin,system:masters\n"))?;
        fs::write(&self.kubeconfig, kubeconfig(ports.api).to_string())?;
        let key = path("service-accounts.key");
        self.start_component(
            "kube-apiserver",
            &[
                &format!("--etcd-servers={etcd}"),
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                &format!("--secure-port={}", ports.api),
                &format!("--cert-dir={}", path("api")),
                &format!("--token-auth-file={}", path("tokens.csv")),
                "--authorization-mode=AlwaysAllow",
                &format!("--service-account-issuer=https://127.0.0.1:{}", ports.api),
                &format!("--service-account-key-file={key}"),
                &format!("--service-account-signing-key-file={key}"),
                // Pods here have no business with the API server.
                "--disable-admission-plugins=ServiceAccount",
                "--service-cluster-ip-range=10.178.0.0/24",
                "--endpoint-reconciler-type=none",
                "--kubelet-preferred-address-types=Hostname",
            ],
        )?;
        self.until("the API server", || Ok(self.kubectl(&["get", "--raw=/readyz"])?.code == 0))?;
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig.display());
        let common = [kubeconfig.as_str(), "--bind-address=127.0.0.1", "--leader-elect=false"];
        let controllers = format!("--secure-port={}", ports.controllers);
        let key = format!("--service-account-private-key-file={key}");
        self.start_component(
            "kube-controller-manager",
            &[&common[..], &[controllers.as_str(), key.as_str()]].concat(),
        )?;
        let scheduler = format!("--secure-port={}", ports.scheduler);
        self.start_component("kube-scheduler", &[&common[..], &[scheduler.as_str()]].concat())
    }

    fn start_kubelet(&mut self, ports: &Ports) -> Result<()> {
        let folder = self.node.folder.clone();
        cgroups::create(&self.node.cgroup_parent())?;
        let configuration = self.kubelet_configuration(ports);
        let file = folder.join("kubelet.json");
        fs::write(&file, configuration.to_string())?;
        let address = self.node.bridge.as_ref().context("no bridge")?.address.clone();
        self.start_component(
            "kubelet",
            &[
                &format!("--config={}", file.display()),
                &format!("--kubeconfig={}", self.kubeconfig.display()),
                &format!("--root-dir={}", folder.join("kubelet").display()),
                &format!("--cert-dir={}", folder.join("kubelet/pki").display()),
                &format!("--hostname-override={NODE}"),
                &format!("--node-ip={address}"),
            ],
        )
    }

    /// `kubelet.config.k8s.io/v1beta1`, for a machine that may have cgroup v1, swap and little disk.
    fn kubelet_configuration(&self, ports: &Ports) -> Value {
        let folder = &self.node.folder;
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": ports.kubelet,
            "healthzPort": ports.kubelet_health,
            "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
            "authorization": { "mode": "AlwaysAllow" },
            "containerRuntimeEndpoint": format!("unix://{}", config::socket(folder).display()),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.node.cgroup_parent(),
            "failCgroupV1": false,
            "enforceNodeAllocatable": [],
            "failSwapOn": false,
            "oomScoreAdj": 0,
            "makeIPTablesUtilChains": false,
            "podLogsDir": folder.join("logs"),
            "volumePluginDir": folder.join("volume-plugins"),
            "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%",
                "nodefs.inodesFree": "1%", "imagefs.available": "1%" },
            "imageGCHighThresholdPercent": 100,
            "maxPods": 250,
            "syncFrequency": "10s",
        })
    }

    fn start_component(&mut self, name: &'static str, flags: &[&str]) -> Result<()> {
        let log = self.node.folder.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let child = Command::new(program(name)?)
            .args(flags)
            .current_dir(&self.node.folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        self.components.push(Component { name, child, log });
        Ok(())
    }
}

impl Component {
    fn is_alive(&self) -> Result<()> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        if stat.is_ok_and(|stat| !stat.contains(") Z ")) {
            return Ok(());
        }
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<_> = log.lines().rev().take(5).collect();
        bail!("{} ended:\n{}", self.name, last.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    fn end(&mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        let ended =
            wait::until(SOON, &format!("{} to end", self.name), || Ok(self.child.try_wait()?));
        if ended.is_err() {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        // One that was ended is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ports {
    /// Ports nobody listens on. They are free at the moment, which is as good as it gets.
    fn free() -> Result<Self> {
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

fn kubectl(kubeconfig: &Path, words: &[&str]) -> Result<Output> {
    let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
    let words = words.iter().copied();
    command::run(program("kubectl")?, [kubeconfig.as_str()].into_iter().chain(words))
}

/// The path of a manifest that users apply as well.
pub fn manifest(name: &str) -> String {
    repository().join("manifests").join(name).display().to_string()
}

/// A program of the cluster: built from `tests/cluster`, or the distribution's.
fn program(name: &str) -> Result<PathBuf> {
    let built = repository().join("target/go/cluster").join(name);
    let paths = [built, Path::new("/usr/bin").join(name)];
    let found = paths.into_iter().find(|path| path.exists());
    found.with_context(|| format!("{name} is not there; `make cluster-tools` gets it"))
}

fn kubeconfig(port: u16) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "tests", "cluster": {
            "server": format!("https://127.0.0.1:{port}"), "insecure-skip-tls-verify": true } }],
        "users": [{ "name": "admin", "user": { "token": TOKEN } }],
        "contexts": [{ "name": "tests", "context": { "cluster": "tests", "user": "admin" } }],
        "current-context": "tests",
    })
}
