//! What the verbs share, and the table from ttrpc call to verb.

use std::collections::{HashMap, hash_map};
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest,
    StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse,
    UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim::protos::ttrpc::{self, r#async::TtrpcContext};
use nix::unistd::Pid;
use oci_spec::runtime::User;
use sandbox::console::Size;
use sandbox::pidfd::Ticks;
use sandbox::{Change, Request, Zygote};
use tokio::sync::{Notify, OnceCell, RwLock, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::compile::Abandoned;
use super::{create, delete, exec, kill, pause, query, start, update};
use crate::annotations::Annotations;
use crate::connection::Connection;
use crate::container::{Container, Kind};
use crate::errors::Error;
use crate::events::Events;
use crate::logger::Whose;
use crate::stdio::{Owner, Paths};

/// How many containers of a Pod are prepared at once: more would only compile against each other.
const CREATES: usize = 4;

/// How long an answer takes at most to be sent before the shim ends by itself.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// How often, and after which pause, what a killed call has left is looked for: half a second in all.
const STRAYS_TRIES: u32 = 50;
const STRAYS_PAUSE: Duration = Duration::from_millis(10);

/// The task service of one Pod.
#[derive(Clone)]
pub struct Service(Arc<Shared>);

/// What the verbs share.
pub struct Shared {
    /// containerd's namespace.
    pub namespace: String,
    /// containerd's gRPC socket.
    pub containerd: PathBuf,
    /// Where processes come from.
    pub zygote: Zygote,
    /// What the Pod's annotations set, where containerd had to be asked for them.
    pub annotations: OnceCell<Annotations>,
    /// Compilations that nobody waits for.
    pub abandoned: Abandoned,
    /// Where events go.
    pub events: Events,
    /// For the long part of a Create, in which an image is looked up and compiled.
    pub creates: Semaphore,
    /// Held for reading from a container's making until its watcher claims it, so that
    /// [`Shared::reap_orphans`] does not take a child that somebody is about to claim.
    pub forking: RwLock<()>,
    containers: Mutex<Containers>,
    /// Notified when a container has been made, could not be made, or was forgotten.
    settled: Notify,
    done: Notify,
    /// containerd has asked for the end. While there was a container still it may not ask again: it has lost patience with
    /// what makes or takes it away.
    ends_when_empty: AtomicBool,
}

/// The containers by id.
type Containers = HashMap<String, Entry>;

/// A container, or one that is still being made.
enum Entry {
    Made(Arc<Container>),
    BeingMade(Caller),
}

impl Entry {
    fn made(&self) -> Option<&Arc<Container>> {
        match self {
            Entry::Made(container) => Some(container),
            Entry::BeingMade(_) => None,
        }
    }
}

/// Who waits for a container to be made.
#[derive(Clone)]
pub struct Caller {
    /// How long.
    pub deadline: Option<Instant>,
    given_up: Arc<Notify>,
}

impl Caller {
    fn new(context: &TtrpcContext) -> Caller {
        Caller { deadline: deadline(context), given_up: Arc::default() }
    }

    /// How long the OCI runtime may take for it.
    pub fn time(&self) -> Duration {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        sandbox::request::time(self.deadline.map(left))
    }

    /// Returns when the container is to be deleted that it waits for. Of those who wait for this, one is told.
    pub async fn gone(&self) {
        self.given_up.notified().await;
    }
}

/// The place of a container that is being made, which is given up when it is dropped unfilled.
pub struct Place<'a> {
    shared: &'a Shared,
    id: &'a str,
}

impl Place<'_> {
    /// The container was made.
    pub fn fill(self, container: Arc<Container>) {
        self.shared.containers().insert(self.id.to_owned(), Entry::Made(container));
        self.shared.settled.notify_waiters();
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut containers = self.shared.containers();
        if let Some(Entry::BeingMade(_)) = containers.get(self.id) {
            containers.remove(self.id);
            self.shared.settled.notify_waiters();
        }
    }
}

impl Shared {
    fn containers(&self) -> MutexGuard<'_, Containers> {
        // A panic cannot leave it half changed: each use inserts, removes or reads once.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the id for a container that is about to be made.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is a container of that id, or one is being made.
    pub fn reserve<'a>(&'a self, id: &'a str, caller: &Caller) -> Result<Place<'a>, Error> {
        match self.containers().entry(id.to_owned()) {
            hash_map::Entry::Occupied(_) => Err(Error::Exists(id.to_owned())),
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry::BeingMade(caller.clone()));
                Ok(Place { shared: self, id })
            }
        }
    }

    /// The container of that id, which is to be deleted. One that is being made is waited for, and not compiled any
    /// more: containerd asks for its deletion when it has lost patience with Create.
    pub async fn settled(&self, id: &str) -> Result<Arc<Container>, Error> {
        loop {
            let settled = self.settled.notified();
            match self.containers().get(id) {
                Some(Entry::Made(container)) => return Ok(container.clone()),
                Some(Entry::BeingMade(caller)) => caller.given_up.notify_one(),
                None => return Err(Error::NoSuchContainer(id.to_owned())),
            }
            settled.await;
        }
    }

    /// Has the kernel make ready for a container's process that is about to enter its cgroup, meanwhile.
    pub fn expect_join(&self) {
        drop(spawn_blocking(|| {
            let _span = trace::span("expect to join a cgroup");
            if !sandbox::cgroup::join::expect() {
                log::debug!(
                    "this process's own cgroup is out of reach: containers start later for it"
                );
            }
        }));
    }

    /// Reaps ended children that belong to no container. While one is being made, it waits for the next time.
    pub fn reap_orphans(&self) {
        let Ok(_nobody_forks) = self.forking.try_write() else {
            return;
        };
        let claimed = |pid: Pid| {
            self.containers()
                .values()
                .filter_map(Entry::made)
                .any(|container| container.claims(pid))
        };
        while let Some(pid) = sandbox::pidfd::reap_orphan(claimed) {
            if pid == self.zygote.pid() {
                log::warn!("the zygote was killed; a new one is started when it is needed");
            }
        }
    }

    /// Has a container changed by another process: a program's by the OCI runtime, others where systemd has to be asked.
    pub async fn change(
        self: &Arc<Self>,
        container: &Container,
        change: Change,
    ) -> Result<(), Error> {
        let (shared, bundle) = (self.clone(), container.bundle().to_owned());
        let request = Request::Change { bundle, id: container.id().to_owned(), change };
        blocking(move || Ok(shared.zygote.call(&request, &[]).map(drop)?)).await
    }

    /// Kills what was left in a container by a call of the OCI runtime that began `then` and was killed. What it has begun may
    /// show only after a while, and is sought only while nothing else is being made.
    pub async fn end_strays(&self, container: &Container, then: Ticks) {
        for _ in 0..STRAYS_TRIES {
            if let Ok(_nobody_forks) = self.forking.try_write() {
                container.kill_strays(then);
            }
            sleep(STRAYS_PAUSE).await;
        }
    }

    /// Opens the stdio of a process that is about to be made.
    ///
    /// # Errors
    /// [`crate::stdio::Error`], and those of making a terminal.
    pub async fn connect(
        self: &Arc<Self>,
        id: &str,
        paths: &Paths,
        owner: Owner,
        is_program: bool,
        user: &User,
    ) -> Result<Connection, Error> {
        let (shared, id) = (self.clone(), id.to_owned());
        let (paths, user) = (paths.clone(), user.clone());
        let opened = blocking(move || {
            // A logger is this process's child, and whoever executes it waits to hear that it was.
            let _nobody_reaps = shared.forking.blocking_read();
            let whose = Whose { id: &id, namespace: &shared.namespace };
            Connection::open(&paths, whose, owner, is_program, &user)
        });
        let opened = opened.await;
        self.reap_orphans();
        opened
    }

    /// After a container has gone: where it was the last and containerd has asked for the end before, nobody may ask again.
    pub fn end_if_asked(self: &Arc<Self>) {
        if self.ends_when_empty.load(Ordering::SeqCst) && self.containers().is_empty() {
            let shared = self.clone();
            tokio::spawn(async move {
                // Whoever still waits for the answer has it first.
                sleep(LAST_ANSWER).await;
                shared.done.notify_one();
            });
        }
    }

    /// Forgets a container. Of two that try at once, one does.
    pub fn forget(&self, id: &str) -> Result<(), Error> {
        let forgotten = self.containers().remove(id);
        self.settled.notify_waiters();
        forgotten.map(drop).ok_or_else(|| Error::NoSuchContainer(id.to_owned()))
    }

    /// The container of that id.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub fn container(&self, id: &str) -> Result<Arc<Container>, Error> {
        let found = self.containers().get(id).and_then(Entry::made).cloned();
        found.ok_or_else(|| Error::NoSuchContainer(id.to_owned()))
    }

    /// The Pod's sandbox, where there is a Pod.
    pub fn sandbox(&self) -> Option<Arc<Container>> {
        let containers = self.containers();
        let mut made = containers.values().filter_map(Entry::made);
        made.find(|container| container.kind() == Kind::Sandbox).cloned()
    }
}

impl Service {
    /// A service without containers.
    pub fn new(namespace: String, containerd: PathBuf, zygote: Zygote, events: Events) -> Service {
        let shared = Shared {
            namespace,
            containerd,
            zygote,
            annotations: OnceCell::new(),
            abandoned: Abandoned::default(),
            events,
            creates: Semaphore::new(CREATES),
            forking: RwLock::new(()),
            containers: Mutex::default(),
            settled: Notify::new(),
            done: Notify::new(),
            ends_when_empty: AtomicBool::new(false),
        };
        // A shim is started for a container that comes next.
        shared.expect_join();
        Service(Arc::new(shared))
    }

    /// Waits until containerd has shut the empty service down.
    pub async fn wait(&self) {
        self.0.done.notified().await;
    }

    /// Reaps ended children that belong to no container.
    pub fn reap_orphans(&self) {
        self.0.reap_orphans();
    }

    /// Waits until the Pod has no container, and none is being made.
    pub async fn emptied(&self) {
        loop {
            let settled = self.0.settled.notified();
            if self.is_empty() {
                return;
            }
            settled.await;
        }
    }

    /// Whether the Pod has no container, and none is being made.
    pub fn is_empty(&self) -> bool {
        self.0.containers().is_empty()
    }
}

/// Runs what blocks (fork, mount, cgroup files) beside the service's one thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(panicked) => Err(Error::io("a step of the shim")(panicked.into())),
    }
}

/// Carries a verb that changes something out to its end. ttrpc drops the future of a call when the caller's time
/// is up or its connection ends, which leaves half of it done.
async fn to_the_end<T: Send + 'static>(
    verb: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Answer<T> {
    match tokio::spawn(verb).await {
        Ok(result) => Ok(result?),
        Err(panicked) => Err(Error::io("a step of the shim")(panicked.into()).into()),
    }
}

/// When an answer is still in time for a caller that does not wait for ever: a tenth of its time is left for the way.
fn deadline(context: &TtrpcContext) -> Option<Instant> {
    let time = Some(context.timeout_nano).filter(|time| *time != 0)?;
    // What is below zero is over.
    let time = u64::try_from(time).unwrap_or_default();
    Some(Instant::now() + Duration::from_nanos(time / 10 * 9))
}

type Answer<T> = ttrpc::Result<T>;

#[async_trait]
impl containerd_shim::Task for Service {
    async fn create(
        &self,
        context: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> Answer<CreateTaskResponse> {
        let caller = Caller::new(context);
        to_the_end(create::create(self.0.clone(), request, caller)).await
    }

    async fn start(&self, context: &TtrpcContext, request: StartRequest) -> Answer<StartResponse> {
        to_the_end(start::start(self.0.clone(), request, Caller::new(context))).await
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Answer<StateResponse> {
        Ok(query::state(&self.0, request)?)
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Answer<WaitResponse> {
        Ok(query::wait(&self.0, request).await?)
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Answer<Empty> {
        Ok(kill::kill(&self.0, request).await?)
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Answer<DeleteResponse> {
        to_the_end(delete::delete(self.0.clone(), request)).await
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Answer<PidsResponse> {
        Ok(query::pids(&self.0, request)?)
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Answer<StatsResponse> {
        Ok(query::stats(&self.0, request)?)
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Answer<ConnectResponse> {
        Ok(query::connect(&self.0, request))
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Answer<Empty> {
        let process = self.0.container(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            process.close_stdin();
        }
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Answer<Empty> {
        Ok(exec::exec(&self.0, request)?)
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Answer<Empty> {
        let process = self.0.container(&request.id)?.process(&request.exec_id)?;
        let cut = |characters: u32| u16::try_from(characters).unwrap_or(u16::MAX);
        process.resize(Size { width: cut(request.width), height: cut(request.height) })?;
        Ok(Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Answer<Empty> {
        to_the_end(pause::pause(self.0.clone(), request)).await
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Answer<Empty> {
        to_the_end(pause::resume(self.0.clone(), request)).await
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Answer<Empty> {
        to_the_end(update::update(self.0.clone(), request)).await
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> Answer<Empty> {
        Err(Error::Checkpoint.into())
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Answer<Empty> {
        // containerd asks after every Delete; the Pod's other containers go on.
        self.0.ends_when_empty.store(true, Ordering::SeqCst);
        if self.0.containers().is_empty() {
            self.0.done.notify_one();
        }
        Ok(Empty::new())
    }
}
