//! Runs tasks with containerd's own API, many at a time, without executing a client and without Pods or snapshots.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_client::services::v1::container::Runtime as RuntimeName;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateTaskRequest, DeleteContainerRequest,
    DeleteTaskRequest, StartRequest, WaitRequest,
};
use containerd_client::tonic::Request;
use containerd_client::tonic::transport::Channel;
use containerd_client::types::Mount;
use containerd_client::with_namespace;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use prost_types::Any;
use serde_json::{Value, json};
use tests::Node;
use tests::containerd::linux_rootfs;
use tests::spec::runtime_of;
use tests::traces::Traces;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::effort::ATTEMPTS;

const NAMESPACE: &str = "default";

/// Time for which a shim may keep the output of a deleted task open.
const CLOSES: Duration = Duration::from_secs(5);

/// Command and expected output of every task.
#[derive(Debug, Clone)]
pub struct Work {
    /// The runtime handler.
    pub handler: &'static str,
    /// The image's reference.
    pub image: String,
    /// The command line.
    pub args: &'static [&'static str],
    /// The whole expected output.
    pub says: &'static str,
}

/// A client of one node's containerd.
#[derive(Debug)]
pub struct Tasks {
    runtime: Runtime,
    one: Arc<One>,
}

/// Parameters of one task.
#[derive(Debug)]
struct One {
    channel: Channel,
    traces: Traces,
    cgroup: String,
    folder: PathBuf,
    count: AtomicUsize,
}

impl Tasks {
    /// Connects to the node's containerd.
    pub fn new(node: &Node) -> Result<Tasks> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("start the client's thread")?;
        let one = One {
            channel: runtime.block_on(containerd_client::connect(node.socket()))?,
            traces: node.traces.clone(),
            cgroup: node.cgroup_parent(),
            folder: node.volume("output")?,
            count: AtomicUsize::default(),
        };
        Ok(Tasks { runtime, one: Arc::new(one) })
    }

    /// Runs this many tasks to their end, some at a time.
    pub fn run(&self, work: &Work, count: usize, at_once: usize) -> Result<()> {
        self.runtime.block_on(async {
            let mut running = JoinSet::new();
            for _ in 0..count {
                if running.len() == at_once {
                    running.join_next().await.context("none is left")???;
                }
                let (one, work) = (self.one.clone(), work.clone());
                running.spawn(async move { one.run(&work).await });
            }
            while let Some(done) = running.join_next().await {
                done??;
            }
            Ok(())
        })
    }
}

impl One {
    /// Runs Create, Start, Wait and Delete. Tries again if that fails; the time counts.
    async fn run(&self, work: &Work) -> Result<()> {
        for _ in 1..ATTEMPTS {
            match self.attempt(work).await {
                Ok(()) => return Ok(()),
                Err(error) => println!("  {}, tried again: {error:#}", work.handler),
            }
        }
        self.attempt(work).await
    }

    async fn attempt(&self, work: &Work) -> Result<()> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}-task-{number}", self.cgroup.trim_start_matches('/'));
        self.traces.watch(NAMESPACE, &id);
        let output = Output::new(&self.folder, &id)?;
        let code = self.task(work, &id, &output).await.with_context(|| id.clone())?;
        let said = output.read().await?;
        ensure!(code == 0 && said == work.says, "{}: exit code {code}, {said:?}", work.handler);
        Ok(())
    }

    async fn task(&self, work: &Work, id: &str, output: &Output) -> Result<u32> {
        let mut containers = ContainersClient::new(self.channel.clone());
        let container = Some(container(work, id, &self.cgroup));
        let create = CreateContainerRequest { container };
        containers.create(with_namespace!(create, NAMESPACE)).await?;
        let mut tasks = TasksClient::new(self.channel.clone());
        let container_id = id.to_owned();
        let create = CreateTaskRequest {
            container_id: container_id.clone(),
            rootfs: vec![root()],
            stdout: output.paths[0].display().to_string(),
            stderr: output.paths[1].display().to_string(),
            ..Default::default()
        };
        tasks.create(with_namespace!(create, NAMESPACE)).await?;
        let start = StartRequest { container_id: container_id.clone(), ..Default::default() };
        tasks.start(with_namespace!(start, NAMESPACE)).await?;
        let wait = WaitRequest { container_id: container_id.clone(), ..Default::default() };
        tasks.wait(with_namespace!(wait, NAMESPACE)).await?;
        let delete = DeleteTaskRequest { container_id: container_id.clone() };
        let deleted = tasks.delete(with_namespace!(delete, NAMESPACE)).await?;
        let delete = DeleteContainerRequest { id: container_id };
        containers.delete(with_namespace!(delete, NAMESPACE)).await?;
        Ok(deleted.into_inner().exit_status)
    }
}

/// Output of a task: standard output and error, because runc's shim requires both. They are read while the task runs,
/// because a shim may wait for that before it reports the task's end.
struct Output {
    paths: [PathBuf; 2],
    read: JoinHandle<std::io::Result<String>>,
}

impl Output {
    /// Makes two fifos. Must be called in a runtime.
    fn new(folder: &Path, id: &str) -> Result<Output> {
        let paths = ["out", "err"].map(|name| folder.join(format!("{id}.{name}")));
        paths.iter().try_for_each(|path| mkfifo(path, Mode::S_IRWXU))?;
        let open = |path| pipe::OpenOptions::new().open_receiver(path);
        let (mut out, mut err) = (open(&paths[0])?, open(&paths[1])?);
        let read = tokio::spawn(async move {
            let (mut said, mut errors) = (String::new(), String::new());
            tokio::try_join!(out.read_to_string(&mut said), err.read_to_string(&mut errors))?;
            Ok(said + &errors)
        });
        Ok(Output { paths, read })
    }

    /// Returns everything that a deleted task has written, the errors last.
    async fn read(self) -> Result<String> {
        let said = timeout(CLOSES, self.read).await.context("the output stays open")???;
        self.paths.iter().try_for_each(std::fs::remove_file)?;
        Ok(said)
    }
}

/// Returns a mount of the files of the image `linux`, as they are in the repository.
fn root() -> Mount {
    Mount {
        r#type: "bind".into(),
        source: linux_rootfs().display().to_string(),
        options: vec!["rbind".into(), "ro".into()],
        ..Default::default()
    }
}

fn container(work: &Work, id: &str, cgroup: &str) -> Container {
    let spec = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Spec".into(),
        value: spec(work, id, cgroup).to_string().into_bytes(),
    };
    Container {
        id: id.into(),
        image: work.image.clone(),
        runtime: Some(RuntimeName { name: runtime_of(work.handler), options: None }),
        spec: Some(spec),
        ..Default::default()
    }
}

/// Returns the spec of `ctr run`, without the mounts that no sample needs.
fn spec(work: &Work, id: &str, cgroup: &str) -> Value {
    let namespaces = ["pid", "ipc", "uts", "mount", "network"].map(|kind| json!({ "type": kind }));
    let mount = |place: &str, kind: &str| {
        json!({ "destination": place, "type": kind, "source": kind,
            "options": ["nosuid", "noexec"] })
    };
    json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": true },
        "process": { "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"],
            "args": work.args, "noNewPrivileges": true },
        "mounts": [mount("/proc", "proc"), mount("/dev", "tmpfs"), mount("/sys", "sysfs")],
        "linux": {
            "cgroupsPath": format!("{cgroup}/{id}"),
            "namespaces": namespaces,
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"],
            "readonlyPaths": ["/proc/bus", "/proc/sys"],
        },
    })
}
