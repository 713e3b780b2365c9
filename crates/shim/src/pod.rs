//! The state of one Pod, below the services that containerd calls: its containers, the ids of those that are being made, and
//! the children that are to be reaped.

use std::collections::{HashMap, hash_map};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::Pid;
use oci_spec::runtime::User;
use sandbox::pidfd::Ticks;
use sandbox::{Change, Kind, Request, Zygote};
use tokio::sync::{Notify, OnceCell, RwLock, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::annotations::Annotations;
use crate::compilation::Abandoned;
use crate::container::Container;
use crate::errors::Error;
use crate::events::Events;
use crate::stdio::logger::LogContext;
use crate::stdio::{Owner, Paths, Stdio};

/// How many containers of a Pod are prepared at once: more would only compile against each other.
const CREATES: usize = 4;

/// How long an answer takes at most to be sent before the shim ends by itself.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// How often, and after which pause, what a killed call has left is looked for: half a second in all.
const STRAYS_TRIES: u32 = 50;
const STRAYS_PAUSE: Duration = Duration::from_millis(10);

/// What the calls for one Pod share.
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
    /// Who waits until then; for ever if that is none.
    pub fn new(deadline: Option<Instant>) -> Caller {
        Caller { deadline, given_up: Arc::default() }
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

/// The id of a container that is being made, which is given up when this is dropped unfilled.
pub struct Reservation<'a> {
    shared: &'a Shared,
    id: &'a str,
}

impl Reservation<'_> {
    /// The container was made.
    pub fn fill(self, container: Arc<Container>) {
        self.shared.containers().insert(self.id.to_owned(), Entry::Made(container));
        self.shared.settled.notify_waiters();
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut containers = self.shared.containers();
        if let Some(Entry::BeingMade(_)) = containers.get(self.id) {
            containers.remove(self.id);
            self.shared.settled.notify_waiters();
        }
    }
}

impl Shared {
    /// A Pod without containers.
    pub fn new(namespace: String, containerd: PathBuf, zygote: Zygote, events: Events) -> Shared {
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
        shared
    }

    /// Waits until containerd has shut the empty Pod down.
    pub async fn done(&self) {
        self.done.notified().await;
    }

    /// containerd asks for the end: at once, or once the last container has gone.
    pub fn shut_down(&self) {
        self.ends_when_empty.store(true, Ordering::SeqCst);
        if self.is_empty() {
            self.done.notify_one();
        }
    }

    /// Waits until the Pod has no container, and none is being made.
    pub async fn emptied(&self) {
        loop {
            let settled = self.settled.notified();
            if self.is_empty() {
                return;
            }
            settled.await;
        }
    }

    /// Whether the Pod has no container, and none is being made.
    pub fn is_empty(&self) -> bool {
        self.containers().is_empty()
    }

    fn containers(&self) -> MutexGuard<'_, Containers> {
        // A panic cannot leave it half changed: each use inserts, removes or reads once.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the id for a container that is about to be made.
    ///
    /// # Errors
    /// [`Error::Exists`] when there is a container of that id, or one is being made.
    pub fn reserve<'a>(&'a self, id: &'a str, caller: &Caller) -> Result<Reservation<'a>, Error> {
        match self.containers().entry(id.to_owned()) {
            hash_map::Entry::Occupied(_) => Err(Error::Exists(id.to_owned())),
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry::BeingMade(caller.clone()));
                Ok(Reservation { shared: self, id })
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
        blocking(move || Ok(shared.zygote.call(&request).map(drop)?)).await
    }

    /// Kills what was left in a container by a call of the OCI runtime that began `then`, was to execute `args` and was killed.
    /// What it has begun may show only after a while, and is sought only while nothing else is being made.
    pub async fn end_strays(&self, container: &Container, then: Ticks, args: &[String]) {
        for _ in 0..STRAYS_TRIES {
            if let Ok(_nobody_forks) = self.forking.try_write() {
                container.kill_strays(then, args);
            }
            sleep(STRAYS_PAUSE).await;
        }
    }

    /// Opens the stdio of a process that is about to be made.
    ///
    /// # Errors
    /// [`crate::stdio::errors::Error`], and those of making a terminal.
    pub async fn connect(
        self: &Arc<Self>,
        id: &str,
        paths: &Paths,
        owner: Owner,
        is_program: bool,
        user: &User,
    ) -> Result<Stdio, Error> {
        let (shared, id) = (self.clone(), id.to_owned());
        let (paths, user) = (paths.clone(), user.clone());
        let opened = blocking(move || {
            // A logger is this process's child, and whoever executes it waits to hear that it was.
            let _nobody_reaps = shared.forking.blocking_read();
            let context = LogContext { id: &id, namespace: &shared.namespace };
            Stdio::open(&paths, context, owner, is_program, &user)
        });
        let opened = opened.await;
        self.reap_orphans();
        opened
    }

    /// After a container has gone: where it was the last and containerd has asked for the end before, nobody may ask again.
    pub fn end_if_asked(self: &Arc<Self>) {
        if self.ends_when_empty.load(Ordering::SeqCst) && self.is_empty() {
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
        made.find(|container| container.kind() == Kind::Pause).cloned()
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
