//! Create: makes an isolated process from a bundle. The process then waits for Start.
//!
//! Each step leaves a guard that undoes it. Once the container is registered, Delete does that instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use containerd_shim::api::{CreateTaskRequest, CreateTaskResponse};
use containerd_shim::protos::events::task::TaskCreate;
use grants::Grants;
use oci_spec::image::Descriptor;
use sandbox::cgroup::Cgroup;
use sandbox::pidfd::PidFd;
use sandbox::rootfs::{self, Mount};
use sandbox::{Kind, ProcessFds, RequestProcess};
use tokio::join;

use super::{config, workload};
use crate::config::ContainerConfig;
use crate::container::{Container, Parts};
use crate::errors::Error;
use crate::options::Options;
use crate::pod::{Caller, Shared, blocking};
use crate::process::Process;
use crate::stdio::{Owner, Paths, PreparedEnds, ShimEnds};

/// Runs Create, and publishes it. It is refused if a compilation takes longer than the caller's deadline, or if the container is
/// deleted in the meantime.
pub async fn create(
    shared: Arc<Shared>,
    request: CreateTaskRequest,
    caller: Caller,
) -> Result<CreateTaskResponse, Error> {
    let made = make(&shared, request, &caller).await;
    if made.is_err() {
        shared.end_if_asked();
    }
    made
}

async fn make(
    shared: &Arc<Shared>,
    request: CreateTaskRequest,
    caller: &Caller,
) -> Result<CreateTaskResponse, Error> {
    let _span = trace::span("Create");
    let reservation = shared.reserve(&request.id, caller)?;
    shared.expect_join();
    let prepared = prepare(shared, &request, caller).await?;
    // The process must not be reaped before its watcher claims it.
    let forking = shared.forking.read().await;
    let built = prepared.build(shared).await.map(Arc::new);
    match &built {
        Ok(container) => reservation.fill(container.clone()),
        Err(_) => drop(reservation),
    }
    drop(forking);
    // Children that ended in the meantime were not reaped. A failure leaves some, too. While they are not reaped, the pid namespace
    // that they joined cannot end, which is the pause's if the Pod shares one.
    shared.reap_orphans();
    let container = built?;
    let pid = container.first().raw_pid();
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

/// Everything that a container needs before it has a process.
struct Prepared {
    parts: Unbuilt,
    builder: RequestProcess,
    create: sandbox::Create,
    fds: ProcessFds,
    shim_ends: PreparedEnds,
}

/// Parts of a container, without its process.
struct Unbuilt {
    config: ContainerConfig,
    rootfs: Rootfs,
    cgroup: Cgroup,
    stdio: Paths,
    kind: Kind,
    layers: Vec<Descriptor>,
    grants: Option<Grants>,
    options: Options,
}

async fn prepare(
    shared: &Arc<Shared>,
    request: &CreateTaskRequest,
    caller: &Caller,
) -> Result<Prepared, Error> {
    // Each may take minutes and a thread or two, and the rest of the Pod must keep working.
    let _turn = shared.creates.acquire().await;
    let bundle = PathBuf::from(&request.bundle);
    let options = Options::parse(request.options.as_ref())?;
    if !request.checkpoint.is_empty() {
        return Err(Error::Checkpoint);
    }
    let mut config = ContainerConfig::read(&bundle)?;
    let by_systemd = options.systemd_cgroup || Cgroup::is_for_systemd(config.cgroups_path());
    let cgroup = Cgroup::new(config.cgroups_path(), &request.id, by_systemd)?;
    // All run at the same time: the kernel mounts and forks while containerd answers.
    let annotated = config::annotations(shared, &config);
    let (builder, rootfs, annotations) =
        join!(fork_builder(shared), mount(request, &config), annotated);
    // All have ended, so that a Create that is refused leaves no mount.
    let (rootfs, builder) = (rootfs?, builder?);
    config.annotate(annotations?)?;
    let finding = trace::span("find the workload");
    let found = workload::find(shared, &request.id, &bundle, &config, &options, caller).await?;
    drop(finding);
    let stdio = Paths {
        terminal: request.terminal,
        stdin: request.stdin.clone(),
        stdout: request.stdout.clone(),
        stderr: request.stderr.clone(),
    };
    let kind = found.workload.kind();
    let is_program = kind == Kind::Program;
    let mut user = config.process().user().clone();
    if is_program {
        rootfs.allow_devices().await?;
        user = options.owner_of_stdio(&user);
    }
    let (fds, shim_ends) =
        shared.connect(&request.id, &stdio, Owner::First, is_program, &user).await?;
    let create = sandbox::Create {
        id: request.id.clone(),
        bundle,
        systemd_cgroup: by_systemd,
        no_pivot_root: options.no_pivot_root,
        runtime: is_program.then(|| options.runtime(&shared.namespace)),
        time: caller.time(),
        workload: found.workload,
    };
    let fds = ProcessFds { guest: found.files, ..fds };
    Ok(Prepared {
        parts: Unbuilt {
            config,
            rootfs,
            cgroup,
            stdio,
            kind,
            layers: found.layers,
            grants: found.grants,
            options,
        },
        builder,
        create,
        fds,
        shim_ends,
    })
}

impl Prepared {
    async fn build(self, shared: &Arc<Shared>) -> Result<Container, Error> {
        let Unbuilt { config, rootfs, cgroup, stdio, kind, layers, grants, options } = self.parts;
        let (id, bundle) = (self.create.id.clone(), self.create.bundle.clone());
        let child = isolate(shared, self.builder, self.create, self.fds).await?;
        let first = Arc::new(Process::new(stdio));
        let members = config.members(child.pid());
        let connected = connect(shared, self.shim_ends, &bundle, &id).await?;
        first.made(child, connected, kind == Kind::Guest);
        Ok(Container::new(Parts {
            id,
            bundle,
            rootfs: rootfs.keep(),
            first,
            cgroup,
            members,
            own_pid_namespace: config.own_pid_namespace(),
            kind,
            has_poststart_hooks: config.has_poststart_hooks(),
            layers,
            options,
            grants,
        }))
    }
}

/// Connects the shim's ends of stdio. If that fails, for example because no terminal came, the container is destroyed.
async fn connect(
    shared: &Arc<Shared>,
    shim_ends: PreparedEnds,
    bundle: &Path,
    id: &str,
) -> Result<ShimEnds, Error> {
    let connected = shim_ends.connect();
    if connected.is_err() {
        let (shared, bundle, id) = (shared.clone(), bundle.to_owned(), id.to_owned());
        blocking(move || Ok(shared.zygote.destroy(&bundle, &id).map(drop)?)).await?;
    }
    connected
}

/// Forks the process that will build the container.
async fn fork_builder(shared: &Arc<Shared>) -> Result<RequestProcess, Error> {
    let shared = shared.clone();
    blocking(move || Ok(shared.zygote.fork_for_request()?)).await
}

async fn isolate(
    shared: &Arc<Shared>,
    builder: RequestProcess,
    create: sandbox::Create,
    fds: ProcessFds,
) -> Result<PidFd, Error> {
    let shared = shared.clone();
    let _span = trace::span("isolate");
    blocking(move || {
        let (bundle, id) = (create.bundle.clone(), create.id.clone());
        // The request process cleans up after itself, unless it was killed.
        shared.zygote.create(builder, create, fds).map_err(|error| {
            if let Err(left) = shared.zygote.destroy(&bundle, &id) {
                log::error!("container {id}: {left}");
            }
            error.into()
        })
    })
    .await
}

/// Mounted root of a container that is being made. It is unmounted when this is dropped.
struct Rootfs {
    path: Option<PathBuf>,
    mounts: Vec<Mount>,
}

impl Rootfs {
    /// Allows device nodes, for a program, whose devices the OCI runtime restricts.
    async fn allow_devices(&self) -> Result<(), Error> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let mounts = self.mounts.clone();
        blocking(move || Ok(rootfs::allow_devices(&mounts, &path)?)).await
    }

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

async fn mount(request: &CreateTaskRequest, config: &ContainerConfig) -> Result<Rootfs, Error> {
    let mounts: Vec<Mount> = request
        .rootfs
        .iter()
        .map(|mount| Mount {
            kind: mount.type_.clone(),
            source: mount.source.clone(),
            options: mount.options.clone(),
        })
        .collect();
    if mounts.is_empty() || config.needs_no_root() {
        // Either the root is a directory of the caller (`ctr run --rootfs`), or the root of a pause, which is not used.
        return Ok(Rootfs { path: None, mounts });
    }
    let path = config.rootfs().to_owned();
    let _span = trace::span("mount the root");
    blocking(move || {
        rootfs::mount(&mounts, &path)?;
        Ok(Rootfs { path: Some(path), mounts })
    })
    .await
}
