//! A private containerd with images and a network of its own: a node without kubelet.

use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::containerd::{Containerd, repository};
use crate::ctr::Ctr;
use crate::disk::Disk;
use crate::network::{self, Bridge};
use crate::traces::Traces;
use crate::wait::{self, SOON};
use crate::{Pod, RunningPod, cgroups, command, config, cri, installer, interrupt, shim};

/// A node. The caller that started it must call [`Node::stop`]. If it is dropped without that, after a failure, it
/// removes what it can and prints containerd's last errors.
#[derive(Debug)]
pub struct Node {
    /// Its containerd.
    pub containerd: Containerd,
    /// Command-line client of its containerd.
    pub ctr: Ctr,
    /// Marks by which everything that the node makes is recognised.
    pub traces: Traces,
    /// The client that replaces kubelet.
    pub cri: cri::Client,
    pub(crate) folder: PathBuf,
    name: String,
    pub(crate) bridge: Option<Bridge>,
    pub(crate) disk: Option<Disk>,
    daemon: Mutex<Option<Child>>,
    imported: Mutex<HashSet<String>>,
}

/// Namespace in which containerd keeps what CRI makes.
pub const KUBERNETES: &str = "k8s.io";

/// Returns the reference of a sample image.
pub fn sample(name: &str) -> String {
    format!("registry.example/samples/{name}:1")
}

/// Runs the story on a fresh node of each existing containerd, and then looks for leftovers.
pub fn on_each_containerd(story: impl Fn(&Node) -> Result<()>) -> Result<()> {
    on_each_node(Node::start, story)
}

/// As [`on_each_containerd`], on nodes that are started in another way.
pub fn on_each_node(
    start: impl Fn(Containerd) -> Result<Node>,
    story: impl Fn(&Node) -> Result<()>,
) -> Result<()> {
    for containerd in Containerd::available()? {
        let version = format!("with containerd {}", containerd.version);
        let node = start(containerd).with_context(|| version.clone())?;
        story(&node).with_context(|| version.clone())?;
        node.stop().with_context(|| version)?;
    }
    Ok(())
}

impl Node {
    /// Starts a containerd of that version, and waits until Pods can run.
    pub fn start(containerd: Containerd) -> Result<Self> {
        Self::start_on(containerd, |_| Ok(None), str::to_owned)
    }

    /// As [`Node::start`], with a changed configuration. `change` gets the usual one.
    pub fn start_with(containerd: Containerd, change: fn(&str) -> String) -> Result<Self> {
        Self::start_on(containerd, |_| Ok(None), change)
    }

    /// As [`Node::start`], with all files on a disk of its own of that many bytes.
    pub fn start_with_disk(containerd: Containerd, bytes: u64) -> Result<Self> {
        Self::start_on(
            containerd,
            |directory| Disk::mount(directory, bytes).map(Some),
            str::to_owned,
        )
    }

    /// Starts it on the disk that a function mounts over its directory.
    pub(crate) fn start_on(
        containerd: Containerd,
        disk: impl FnOnce(&Path) -> Result<Option<Disk>>,
        change: fn(&str) -> String,
    ) -> Result<Self> {
        let making = interrupt::making();
        let folder = tempfile::Builder::new().prefix("wst-").tempdir_in("/tmp")?.keep();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut node = Self {
            ctr: Ctr::new(&containerd, &name, &folder),
            traces: Traces::new(&name, &folder),
            cri: cri::Client::new(&config::socket(&folder))?,
            bridge: None,
            disk: None,
            daemon: Mutex::default(),
            imported: Mutex::default(),
            containerd,
            folder,
            name,
        };
        making.note(&node.traces);
        node.disk = disk(&node.folder)?;
        config::write(&node.containerd, &node.folder, &network::plugins()?)?;
        let config = node.folder.join("config.toml");
        fs::write(&config, change(&fs::read_to_string(&config)?))?;
        node.bridge = Some(Bridge::create(&node.name, &node.folder)?);
        node.start_containerd()?;
        node.image("pause")?;
        Ok(node)
    }

    /// Starts containerd with the state that an earlier one left.
    pub fn start_containerd(&self) -> Result<()> {
        let mut command = Command::new(&self.containerd.program);
        command.arg("--config").arg(self.folder.join("config.toml")).env("PATH", self.path()?);
        command.env("WASMTIME_SHIM_CACHE", self.code());
        command.envs(self.containerd.environment.iter().cloned());
        command.envs(installer::variables(&self.folder)?);
        let child = command::daemon(&mut command, &self.folder, &self.log())?;
        *self.daemon() = Some(child);
        wait::until(SOON, "containerd to be ready", || {
            if let Some(status) = self.daemon().as_mut().and_then(|child| child.try_wait().ok()?) {
                bail!("containerd ended at once ({status}):\n{}", self.complaints());
            }
            Ok(self.cri.is_ready().then_some(()))
        })
    }

    /// Ends containerd alone, as an upgrade or a crash would, and waits for its end.
    pub fn end_containerd(&self, signal: Signal) -> Result<()> {
        let mut child = self.daemon().take().context("containerd does not run")?;
        kill(Pid::from_raw(child.id().try_into()?), signal)?;
        let ended = wait::until(SOON, "containerd to end", || Ok(child.try_wait()?));
        if ended.is_err() {
            child.kill()?;
            child.wait()?;
        }
        ended.map(drop)
    }

    /// Records that containerd has ended by itself.
    pub fn forget_containerd(&self) {
        if let Some(mut child) = self.daemon().take() {
            // It may be about to end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Returns containerd's pid while it runs.
    pub fn daemon_pid(&self) -> Option<i32> {
        self.daemon().as_ref().and_then(|child| child.id().try_into().ok())
    }

    /// Runs a Pod.
    pub fn run_pod(&self, pod: &Pod) -> Result<RunningPod<'_>> {
        let logs = tempfile::Builder::new().prefix("logs-").tempdir_in(&self.folder)?.keep();
        RunningPod::start(self, pod, &logs)
    }

    /// Returns the reference of a sample image, ready for Pods.
    pub fn image(&self, name: &str) -> Result<String> {
        let reference = self.import(KUBERNETES, name)?;
        self.until_known(&reference)?;
        Ok(reference)
    }

    /// Waits until CRI knows an imported image, because CRI learns of images from containerd's events.
    pub fn until_known(&self, reference: &str) -> Result<()> {
        wait::until(SOON, &format!("CRI to know {reference}"), || {
            Ok(self.cri.has_image(reference)?.then_some(()))
        })
    }

    /// Returns the reference of a sample image, ready for `ctr run`.
    pub fn ctr_image(&self, name: &str) -> Result<String> {
        self.import("default", name)
    }

    /// Deletes a sample image. [`Node::image`] then imports it again.
    pub fn delete_image(&self, name: &str) -> Result<()> {
        let reference = self.image(name)?;
        self.cri.remove_image(&reference)?;
        let mut imported = self.imported.lock().expect("no import panics");
        imported.remove(&format!("{KUBERNETES}/{name}"));
        Ok(())
    }

    fn import(&self, namespace: &str, name: &str) -> Result<String> {
        let mut imported = self.imported.lock().expect("no import panics");
        if imported.insert(format!("{namespace}/{name}")) {
            self.import_sample(namespace, name)?;
        }
        Ok(sample(name))
    }

    /// Imports a sample image, whether it is there or not.
    pub fn import_sample(&self, namespace: &str, name: &str) -> Result<()> {
        self.import_archive(namespace, &repository().join(format!("target/images/{name}.tar")))
    }

    /// Returns the directory of image content in its containerd. Each file is named by its digest.
    pub fn blobs(&self) -> PathBuf {
        self.folder.join("root/io.containerd.content.v1.content/blobs/sha256")
    }

    /// Returns the directory of containerd's bundles in a namespace. Each bundle is a directory named by its id.
    pub fn bundles_of(&self, namespace: &str) -> PathBuf {
        self.bundles().join(namespace)
    }

    pub(crate) fn bundles(&self) -> PathBuf {
        self.folder.join("state/io.containerd.runtime.v2.task")
    }

    /// Returns the directory in which its shims keep the compiled code of guests that are files.
    pub fn code(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// Returns the directory of all its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns its own disk, if it has one.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Imports the images of an archive.
    pub fn import_archive(&self, namespace: &str, archive: &Path) -> Result<()> {
        let archive = archive.to_str().context("the archive's path is not UTF-8")?;
        let words = ["images", "import", "--all-platforms", "--no-unpack", archive];
        let imported = self.ctr.run(namespace, &words)?.success();
        imported.map(drop).with_context(|| format!("import {archive}"))
    }

    /// Makes an empty directory for a volume.
    pub fn volume(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join("volumes").join(name);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Returns its address in the Pods' network.
    pub fn address(&self) -> Result<&str> {
        Ok(&self.bridge.as_ref().context("the node has no network")?.address)
    }

    /// Returns the socket of its containerd.
    pub fn socket(&self) -> PathBuf {
        config::socket(&self.folder)
    }

    /// Returns the cgroup that contains only the Pods of this node.
    pub fn cgroup_parent(&self) -> String {
        match cgroups::by_systemd() {
            Ok(true) => format!("/{}/{}.slice", cgroups::slice_above(&self.name), self.name),
            _ => format!("/{}", self.name),
        }
    }

    /// Returns the cgroup of a Pod's sandbox or of a container.
    pub fn cgroup_of(&self, id: &str) -> String {
        let parent = self.cgroup_parent();
        match cgroups::by_systemd() {
            Ok(true) => format!("{parent}/cri-containerd-{id}.scope"),
            _ => format!("{parent}/{id}"),
        }
    }

    /// Returns the last errors in containerd's log, cut to a readable length.
    pub(crate) fn complaints(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let bad = |line: &&str| line.contains("level=error") || line.contains("level=fatal");
        let mut lines: Vec<_> = log.lines().rev().filter(bad).take(8).collect();
        lines.reverse();
        let cut = |line: &str| line.chars().take(600).collect::<String>() + "\n";
        lines.into_iter().map(cut).collect()
    }

    fn log(&self) -> PathBuf {
        config::log(&self.folder)
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Child>> {
        self.daemon.lock().expect("no thread panics while holding the daemon")
    }

    /// Returns PATH with the shim of this build first, then the programs that came with this containerd, because runc's
    /// shim must have the same version.
    fn path(&self) -> Result<OsString> {
        let first = [Some(shim::built()?), self.containerd.program.parent().map(PathBuf::from)];
        let path = env::var_os("PATH").unwrap_or_default();
        Ok(env::join_paths(first.into_iter().flatten().chain(env::split_paths(&path)))?)
    }
}
