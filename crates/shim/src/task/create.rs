//! Create: from a bundle to an isolated process that waits for Start.
//!
//! Each step leaves a guard that takes it back, until the container is registered and Delete is there for that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use containerd_shim::api::{CreateTaskRequest, CreateTaskResponse};
use containerd_shim::protos::events::task::TaskCreate;
use nix::unistd::Pid;
use sandbox::cgroup::{self, Cgroup};
use sandbox::pidfd::PidFd;
use sandbox::rootfs::{self, Mount};
use sandbox::{Reply, Request};

use super::service::{Shared, blocking};
use super::workload::{self, Found};
use crate::config::ContainerConfig;
use crate::container::{Container, Parts};
use crate::errors::Error;
use crate::options::Options;
use crate::stdio::{self, Paths, Streams};

/// Carries out Create, and tells of it.
pub async fn create(
    shared: Arc<Shared>,
    request: CreateTaskRequest,
) -> Result<CreateTaskResponse, Error> {
    if request.terminal {
        return Err(Error::Unsupported("a terminal"));
    }
    // Until the watcher claims the process, nobody else may reap it.
    let _forking = shared.forking.read().await;
    let place = shared.reserve(&request.id)?;
    let container = Arc::new(build(&shared, &request).await?);
    let pid = container.pid().as_raw() as u32;
    place.fill(container.clone());
    shared.events.publish(TaskCreate {
        container_id: request.id,
        bundle: request.bundle,
        rootfs: request.rootfs,
        io: Some(container.task_io()).into(),
        checkpoint: request.checkpoint,
        pid,
        ..Default::default()
    });
    tokio::spawn(container.watch(shared.events.clone()));
    Ok(CreateTaskResponse { pid, ..Default::default() })
}

async fn build(shared: &Arc<Shared>, request: &CreateTaskRequest) -> Result<Container, Error> {
    let bundle = PathBuf::from(&request.bundle);
    let options = Options::parse(request.options.as_ref())?;
    let config = ContainerConfig::read(&bundle)?;
    let cgroups_path = config.cgroups_path();
    // containerd 1.6 passes no runtime options to this runtime unless they are in a file.
    let systemd_cgroup =
        options.systemd_cgroup || cgroups_path.as_deref().is_some_and(cgroup::is_for_systemd);
    let cgroup = Cgroup::new(&cgroups_path, &request.id, systemd_cgroup)?;
    let rootfs = mount(request, config.rootfs()).await?;
    let found = workload::find(shared, &request.id, &config).await?;
    let stdio = Paths {
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
    };
    let user = config.process().user();
    let streams = stdio::open(&stdio, user.uid(), user.gid())?;
    let create = sandbox::Create {
        id: request.id.clone(),
        bundle: bundle.clone(),
        systemd_cgroup,
        no_pivot_root: options.no_pivot_root,
        stdio: [0, 1, 2].map(|stream: usize| streams.given[stream].is_some()),
        workload: found.workload.clone(),
    };
    let Streams { given, kept } = streams;
    let fds = given.into_iter().flatten().chain(found.into_code()).collect();
    let process = isolate(shared, create, fds).await?;
    Ok(Container::new(Parts {
        id: request.id.clone(),
        bundle,
        rootfs: rootfs.keep(),
        process,
        cgroup,
        own_pid_namespace: config.own_pid_namespace(),
        stdio,
        kept,
    }))
}

async fn isolate(
    shared: &Arc<Shared>,
    create: sandbox::Create,
    fds: Vec<std::os::fd::OwnedFd>,
) -> Result<PidFd, Error> {
    let shared = shared.clone();
    blocking(move || {
        let (bundle, id) = (create.bundle.clone(), create.id.clone());
        let opened = match shared.zygote.call(&Request::Create(create), &fds) {
            Ok(Reply::Created { pid }) => PidFd::open(Pid::from_raw(pid)),
            Ok(_) => Err(sandbox::Error::Gone { process: "request" }),
            Err(error) => Err(error),
        };
        // The request's process cleans up after itself, unless it was killed.
        opened.map_err(|error| {
            let _ = sandbox::destroy(&bundle, &id);
            error.into()
        })
    })
    .await
}

/// The mounted root of a container that is being made.
struct Rootfs {
    path: Option<PathBuf>,
}

impl Rootfs {
    fn keep(mut self) -> PathBuf {
        self.path.take().unwrap_or_default()
    }
}

impl Drop for Rootfs {
    fn drop(&mut self) {
        if let Some(path) = &self.path
            && let Err(error) = rootfs::unmount(path)
        {
            log::warn!("{error}");
        }
    }
}

async fn mount(request: &CreateTaskRequest, rootfs: &Path) -> Result<Rootfs, Error> {
    let mounts: Vec<Mount> = request
        .rootfs
        .iter()
        .map(|mount| Mount {
            kind: mount.type_.clone(),
            source: mount.source.clone(),
            options: mount.options.clone(),
        })
        .collect();
    if mounts.is_empty() {
        // The caller's own folder (`ctr run --rootfs`): nothing of ours to unmount.
        return Ok(Rootfs { path: None });
    }
    let path = rootfs.to_owned();
    blocking(move || {
        rootfs::mount(&mounts, &path)?;
        Ok(Rootfs { path: Some(path) })
    })
    .await
}

impl Found {
    fn into_code(self) -> Option<std::os::fd::OwnedFd> {
        self.code
    }
}
