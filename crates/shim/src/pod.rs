//! State of one Pod, below the services that containerd calls: its containers, the ids of containers that are being
//! made, and the children that must be reaped.

use std::collections::{HashMap, hash_map};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::Pid;
use oci_spec::runtime::User;
use sandbox::pidfd::Ticks;
use sandbox::{Change, Kind, ProcessFds, Request, Zygote};
use tokio::sync::{Notify, OnceCell, RwLock, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use crate::compilation::Abandoned;
use crate::container::Container;
use crate::errors::Error;
use crate::events::Events;
use crate::stdio::logger::LogContext;
use crate::stdio::{self, Owner, Paths, PreparedEnds};

/// How many containers of a Pod are prepared at once. More would only compete for the processors.
const CREATES: usize = 4;

/// How long the shim waits for its last answer to be sent before it ends by itself.
const LAST_ANSWER: Duration = Duration::from_secs(1);

/// How often, and after which pause, to look for what a killed call has left: half a second in all.
const STRAYS_TRIES: u32 = 50;
const STRAYS_PAUSE: Duration = Duration::from_millis(10);

/// State that the calls for one Pod share.
pub struct Shared {
    /// Namespace of containerd.
    pub namespace: String,
    /// Path of containerd's gRPC socket.
    pub containerd: PathBuf,
    /// Zygote, which makes processes.
    pub zygote: Zygote,
    /// Annotations of the Pod for this runtime, as containerd has recorded them.
    pub annotations: OnceCell<HashMap<String, String>>,
    /// Compilations that no call waits for.
    pub abandoned: Abandoned,
    /// Queue of events.
    pub events: Events,
    /// Limits how many Creates are in their long part, in which an image is looked up and compiled.
    pub creates: Semaphore,
    /// Held for reading while a process is made, until its watcher claims it, so that [`Shared::reap_orphans`] does not reap a
    /// child that is about to be claimed.
    pub forking: RwLock<()>,
    containers: Mutex<Containers>,
    /// Notified when a container has been made, could not be made, or was forgotten.
    settled: Notify,
    done: Notify,
    /// Whether containerd has asked for the end. If a container existed then, containerd may not ask again, because its own call
    /// for that container has timed out.
    ends_when_empty: AtomicBool,
}

/// Containers by id.
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

/// Caller that waits for a container to be made.
#[derive(Clone)]
pub struct Caller {
    /// When the caller gives up; `None` is never.
    pub deadline: Option<Instant>,
    given_up: Arc<Notify>,
}

impl Caller {
    /// A caller that waits until then; `None` is for ever.
    pub fn new(deadline: Option<Instant>) -> Caller {
        Caller { deadline, given_up: Arc::default() }
    }

    /// How long the OCI runtime may take for this caller.
    pub fn time(&self) -> Duration {
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        sandbox::request::time(self.deadline.map(left))
    }

    /// Returns when the container that the caller waits for is to be deleted. It returns for one task only.
    pub async fn gone(&self) {
        self.given_up.notified().await;
    }
}

/// Reservation of the id of a container that is being made. It ends when it is filled or dropped.
pub struct Reservation<'a> {
    shared: &'a Shared,
    id: &'a str,
}

impl Reservation<'_> {
    /// Registers the container, which was made.
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
        // A shim is started for a container, which is created next.
        shared.expect_join();
        shared
    }

    /// Waits until containerd has shut the empty Pod down.
    pub async fn done(&self) {
        self.done.notified().await;
    }

    /// Shuts the Pod down, as containerd asks: at once, or when the last container has gone.
    pub fn shut_down(&self) {
        self.ends_when_empty.store(true, Ordering::SeqCst);
        if self.is_empty() {
            self.done.notify_one();
        }
    }

    /// Waits until the Pod has no container, not even one that is being made.
    pub async fn emptied(&self) {
        loop {
            let settled = self.settled.notified();
            if self.is_empty() {
                return;
            }
            settled.await;
        }
    }

    /// Whether the Pod has no container, not even one that is being made.
    pub fn is_empty(&self) -> bool {
        self.containers().is_empty()
    }

    fn containers(&self) -> MutexGuard<'_, Containers> {
        // A panic cannot leave it half changed: each use inserts, removes or reads once.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves the id of a container that is about to be made.
    ///
    /// # Errors
    /// [`Error::Exists`] if there is a container of that id, or one is being made.
    pub fn reserve<'a>(&'a self, id: &'a str, caller: &Caller) -> Result<Reservation<'a>, Error> {
        match self.containers().entry(id.to_owned()) {
            hash_map::Entry::Occupied(_) => Err(Error::Exists(id.to_owned())),
            hash_map::Entry::Vacant(vacant) => {
                vacant.insert(Entry::BeingMade(caller.clone()));
                Ok(Reservation { shared: self, id })
            }
        }
    }

    /// Container of that id, which is to be deleted. If it is being made, this ends its compilation and waits for it: containerd
    /// asks for the deletion when its Create has timed out.
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

    /// Prepares the kernel, in the background, for a container's process that is about to enter its cgroup.
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

    /// Reaps ended children that belong to no container. Does nothing while a process is being made; the next call does it.
    pub fn reap_orphans(&self) {
        let Ok(_no_process_is_made) = self.forking.try_write() else {
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

    /// Changes a container by a further process, which calls the OCI runtime for a program, and systemd for others.
    pub async fn change(
        self: &Arc<Self>,
        container: &Container,
        change: Change,
    ) -> Result<(), Error> {
        let (shared, bundle) = (self.clone(), container.bundle().to_owned());
        let request = Request::Change { bundle, id: container.id().to_owned(), change };
        blocking(move || Ok(shared.zygote.call(&request).map(drop)?)).await
    }

    /// Kills processes in a container that were left by a killed call of the OCI runtime, which began `then` to execute `args`.
    /// They may appear only after a while, and this looks for them only while no other process is being made.
    pub async fn end_strays(&self, container: &Container, then: Ticks, args: &[String]) {
        for _ in 0..STRAYS_TRIES {
            if let Ok(_no_process_is_made) = self.forking.try_write() {
                container.kill_strays(then, args);
            }
            sleep(STRAYS_PAUSE).await;
        }
    }

    /// Opens the stdio of a process that is about to be made.
    ///
    /// # Errors
    /// [`crate::stdio::errors::Error`], and errors of making a terminal.
    pub async fn connect(
        self: &Arc<Self>,
        id: &str,
        paths: &Paths,
        owner: Owner,
        is_program: bool,
        user: &User,
    ) -> Result<(ProcessFds, PreparedEnds), Error> {
        let (shared, id) = (self.clone(), id.to_owned());
        let (paths, user) = (paths.clone(), user.clone());
        let opened = blocking(move || {
            // A logger is a child of this process, which waits until it was executed.
            let _not_reaped = shared.forking.blocking_read();
            let context = LogContext { id: &id, namespace: &shared.namespace };
            stdio::open(&paths, context, owner, is_program, &user)
        });
        let opened = opened.await;
        self.reap_orphans();
        opened
    }

    /// Ends the Pod if its last container has gone and containerd has asked for the end before, because it may not ask again.
    pub fn end_if_asked(self: &Arc<Self>) {
        if self.ends_when_empty.load(Ordering::SeqCst) && self.is_empty() {
            let shared = self.clone();
            tokio::spawn(async move {
                // A caller that still waits must get its answer first.
                sleep(LAST_ANSWER).await;
                shared.done.notify_one();
            });
        }
    }

    /// Forgets a container. If two calls try at once, one succeeds.
    pub fn forget(&self, id: &str) -> Result<(), Error> {
        let forgotten = self.containers().remove(id);
        self.settled.notify_waiters();
        forgotten.map(drop).ok_or_else(|| Error::NoSuchContainer(id.to_owned()))
    }

    /// Container of that id.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`].
    pub fn container(&self, id: &str) -> Result<Arc<Container>, Error> {
        let found = self.containers().get(id).and_then(Entry::made).cloned();
        found.ok_or_else(|| Error::NoSuchContainer(id.to_owned()))
    }

    /// Sandbox of the Pod, if there is a Pod.
    pub fn sandbox(&self) -> Option<Arc<Container>> {
        let containers = self.containers();
        let mut made = containers.values().filter_map(Entry::made);
        made.find(|container| container.kind() == Kind::Pause).cloned()
    }
}

/// Runs blocking work (fork, mount, cgroup files) outside of the service's single thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(work).await {
        Ok(result) => result,
        Err(panicked) => Err(Error::io("complete a step of the shim")(panicked.into())),
    }
}
