//! The zygote: a single-threaded child of the shim that forks a process for every request.
//!
//! ```text
//! shim ──datagram: connection──▶ zygote ──fork──▶ request process ◀── descriptors, JSON request ── shim
//!                                                   │             ── JSON reply ────────────────▶ shim
//!                                                   └─ container (orphaned to the shim,
//!                                                      which is the child subreaper)
//! ```
//! The zygote is forked before the shim has a thread, so that its children may use the whole C library. It builds its
//! [`Guests`] (an engine, linkers) once, and every container shares them copy-on-write. It ends with the shim, because its
//! socket is then closed. A container does not depend on it: the request process that built the container has exited
//! by the time the shim has the answer, and the container is then a child of the shim. If the zygote is killed, the shim
//! executes itself to get another one, because it has threads by then and must not fork.

use std::convert::Infallible;
use std::env;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, pipe2};
use serde_json::Value;

use crate::child::exit;
use crate::guests::Guests;
use crate::pidfd::PidFd;
use crate::request::ExecFds;
use crate::wire::Message;
use crate::{
    Create, Descriptors, Error, Exec, Failure, Job, JobFds, ProcessFds, Reply, Request,
    SingleThread, Workload, create, exec, inherit, isolate, limits, name_service, program,
    read_only, wire, worker,
};

/// The shim's side of its zygote.
#[derive(Debug)]
pub struct Zygote {
    link: Mutex<Link>,
    version: Mutex<Option<String>>,
    /// The argument with which this program runs as a zygote.
    action: &'static str,
}

/// The current zygote.
#[derive(Debug, Clone)]
struct Link {
    pid: Pid,
    socket: Arc<OwnedFd>,
}

impl Zygote {
    /// Forks the zygote, which then uses the allocator. `action` is the argument with which this program calls
    /// [`run_on_stdin`].
    ///
    /// # Errors
    /// [`Error::System`] if the process cannot be forked.
    pub fn fork(
        _: SingleThread,
        action: &'static str,
        guests: impl FnOnce() -> Guests,
    ) -> Result<Zygote, Error> {
        let (ours, theirs) = socket_pair()?;
        // SAFETY: this process has one thread, so the child finds every lock free.
        match unsafe { fork() }.map_err(Error::system("fork the zygote"))? {
            ForkResult::Parent { child } => {
                let link = Mutex::new(Link { pid: child, socket: Arc::new(ours) });
                Ok(Zygote { link, version: Mutex::default(), action })
            }
            ForkResult::Child => {
                drop(ours);
                run(theirs, guests)
            }
        }
    }

    /// The zygote's process id.
    pub fn pid(&self) -> Pid {
        self.link().pid
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        // A panic cannot leave the link half changed, because it is assigned as a whole.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forks a process for a request that is still being prepared. If the zygote is gone, a new one does it. If what is
    /// returned is dropped, the process ends.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::System`] if the zygote cannot be reached.
    pub fn fork_for_request(&self) -> Result<RequestProcess, Error> {
        let (connection, theirs) =
            UnixStream::pair().map_err(Error::io("make a socket pair for a request"))?;
        let (link, fds) = (self.link().clone(), [theirs.as_raw_fd()]);
        match wire::send_fds(&link.socket, &fds) {
            Err(Error::Gone { .. }) => wire::send_fds(&self.replace(link.pid)?.socket, &fds)?,
            sent => sent?,
        }
        Ok(RequestProcess { connection })
    }

    /// Executes a new zygote in place of the one that is gone, unless another thread has already done so.
    fn replace(&self, gone: Pid) -> Result<Link, Error> {
        let mut link = self.link();
        if link.pid == gone {
            let (ours, theirs) = socket_pair()?;
            // This process was executed from this read-only file (`read_only`). The arguments are the same, so that `ps`
            // shows to which Pod the process belongs.
            let executed = Command::new("/proc/self/exe")
                .args(env::args_os().skip(1))
                .arg(self.action)
                .stdin(theirs)
                .spawn();
            let executed = executed.map_err(Error::io("execute another zygote"))?;
            *link = Link { pid: Pid::from_raw(executed.id() as i32), socket: Arc::new(ours) };
        }
        Ok(link.clone())
    }

    /// Its [`Guests::version`]: another version may give other results of jobs. Blocks until the guests are made.
    ///
    /// # Errors
    /// [`Error::Gone`] if the zygote was killed before that.
    pub fn version(&self) -> Result<String, Error> {
        // A panic cannot leave the version half written.
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        if version.is_none() {
            let socket = self.link().socket.clone();
            *version = Some(wire::receive_text(&socket)?);
        }
        Ok(version.clone().unwrap_or_default())
    }

    /// Destroys a container. Returns a warning for a failure that does not prevent that. Blocks. If the process that does it is
    /// killed, a second one continues; if that is not possible either, this process does it.
    pub fn destroy(&self, bundle: &Path, id: &str) -> Result<Option<String>, Error> {
        let request = Request::Destroy { bundle: bundle.to_owned(), id: id.to_owned() };
        let first = self.call(&request);
        let answer = if let Err(Error::Gone { .. }) = first { self.call(&request) } else { first };
        match answer {
            Ok(Reply::Destroyed { warning }) => Ok(warning),
            Ok(_) | Err(Error::Gone { .. }) => create::destroy(bundle, id),
            Err(error) => Err(error),
        }
    }

    /// Makes a container that waits for Start, and returns its first process. `builder` does it, or another process if that has
    /// ended. Blocks.
    ///
    /// # Errors
    /// As [`Zygote::call`].
    pub fn create(
        &self,
        builder: RequestProcess,
        create: Create,
        fds: ProcessFds,
    ) -> Result<PidFd, Error> {
        let builder = if builder.has_ended() { self.fork_for_request()? } else { builder };
        builder.make(&Request::Create(create), fds.into_descriptors())
    }

    /// Makes an exec process in the container whose first process is `first`, and lets its workload run. Blocks.
    ///
    /// # Errors
    /// As [`Zygote::call`].
    pub fn exec(&self, exec: Exec, first: OwnedFd, process: ProcessFds) -> Result<PidFd, Error> {
        let (release, releasing) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("make a pipe"))?;
        let fds = ExecFds { first, release, process };
        let request = Request::Exec(Box::new(exec));
        let process = self.fork_for_request()?.make(&request, fds.into_descriptors())?;
        // This fails if the process was killed.
        let _ = nix::unistd::write(&releasing, &[1]);
        Ok(process)
    }

    /// Runs a job in a worker, and returns its answer. Blocks.
    ///
    /// # Errors
    /// As [`Zygote::call`]; [`Error::Worker`] if the worker ended without an answer.
    pub fn job(&self, job: Job, fds: JobFds) -> Result<Value, Error> {
        match self.fork_for_request()?.call(&Request::Job(job), fds.into_descriptors())? {
            Reply::Job(value) => Ok(value),
            _ => Err(Error::Gone { process: "request" }),
        }
    }

    /// Sends a request without descriptors and waits for the answer. Blocks.
    ///
    /// # Errors
    /// [`Error::Gone`] if the zygote or the request process was killed; [`Error::Container`] or [`Error::Killed`] with the
    /// reason if the request failed; [`Error::Late`].
    pub fn call(&self, request: &Request) -> Result<Reply, Error> {
        self.fork_for_request()?.call(request, Descriptors::default())
    }
}

/// A process that waits for a request.
#[derive(Debug)]
pub struct RequestProcess {
    connection: UnixStream,
}

impl RequestProcess {
    /// Whether it ended before it was given a request, as it does with its zygote.
    fn has_ended(&self) -> bool {
        let mut connection = [PollFd::new(self.connection.as_fd(), PollFlags::empty())];
        let polled = poll(&mut connection, PollTimeout::ZERO);
        polled.is_ok() && connection[0].any() == Some(true)
    }

    fn make(self, request: &Request, descriptors: Descriptors) -> Result<PidFd, Error> {
        match self.call(request, descriptors)? {
            Reply::Created { pid } => PidFd::open(Pid::from_raw(pid)),
            _ => Err(Error::Gone { process: "request" }),
        }
    }

    fn call(self, request: &Request, descriptors: Descriptors) -> Result<Reply, Error> {
        let RequestProcess { connection: ours } = self;
        let message = Message { request, descriptors: descriptors.names() };
        // If the process is gone, reading the reply reports it.
        match wire::send_fds(&ours, &descriptors.numbers()) {
            Err(error) if !matches!(error, Error::Gone { .. }) => return Err(error),
            _ => drop(wire::write(&ours, &message)),
        }
        // The request process bounds its own work. This limit is for steps that hang, such as a volume's.
        let limit = request.time().map(|time| time + limits::CLEANUP_TIME);
        let reply = wire::read_reply(&ours, limit);
        if matches!(request, Request::Job(_)) {
            // A worker keeps its memory until it has ended. Its parent keeps the connection open until then.
            let _ = (&ours).read_to_end(&mut Vec::new());
        }
        match reply {
            Ok(Reply::Failed(Failure { message, was_killed: true })) => Err(Error::Killed(message)),
            Ok(Reply::Failed(Failure { message, .. })) => Err(Error::Container(message)),
            Ok(Reply::Ended(end)) => Err(Error::Worker(end)),
            reply => reply,
        }
    }
}

fn socket_pair() -> Result<(OwnedFd, OwnedFd), Error> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(Error::system("make a socket pair for the zygote"))
}

/// Runs as the zygote of the shim at the other end of stdin. Stdin becomes `/dev/null`.
///
/// # Errors
/// [`Error::Io`] or [`Error::System`] if stdin cannot be taken over.
pub fn run_on_stdin(guests: impl FnOnce() -> Guests) -> Result<Infallible, Error> {
    let socket = std::io::stdin().as_fd().try_clone_to_owned();
    let socket = socket.map_err(Error::io("duplicate stdin"))?;
    nix::unistd::dup2_stdin(read_only::null()?).map_err(Error::system("close stdin"))?;
    run(socket, guests)
}

/// Makes the guests and serves until the shim has ended.
fn run(socket: OwnedFd, guests: impl FnOnce() -> Guests) -> ! {
    // One of them is the shim's listener, which must not stay open in a child after the shim has ended.
    if inherit::close_all_but(&[socket.as_raw_fd()]).is_err() {
        exit(1)
    }
    // The shim's directory is the Pod's bundle, which is removed with the pause, while other containers may still be made.
    let _ = std::env::set_current_dir("/");
    trace::process("zygote");
    // Guests look up names in containers.
    // SAFETY: this process was forked from one with one thread, or has just been executed, and has started none.
    name_service::use_files_and_dns(&unsafe { SingleThread::assume() });
    let guests = guests();
    wire::send_text(&socket, &guests.version);
    serve(socket, &guests)
}

/// Forks a process for every connection.
fn serve(socket: OwnedFd, guests: &Guests) -> ! {
    isolate::table::prepare();
    let _ = nix::sys::prctl::set_name(c"wasmtime-zygote");
    trace::mark("ready");
    // The kernel reaps request processes, because no process waits for them.
    // SAFETY: SIG_IGN is no function, and this process has no other handler for SIGCHLD.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
    let zygote = getpid();
    loop {
        let Ok(Some(mut fds)) = wire::receive_fds(&socket) else { exit(0) };
        let Some(connection) = fds.pop() else { continue };
        // SAFETY: this process has one thread: it was forked from a process with one, and starts none.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                // The shim must notice the death of the zygote while this process and its children still run.
                drop(socket);
                trace::process("request");
                answer(connection.into(), guests, zygote)
            }
            // This drops the connection, which the shim reports as "ended before it answered".
            Ok(ForkResult::Parent { .. }) | Err(_) => drop(connection),
        }
    }
}

/// The request process: reads one request, carries it out, answers and exits.
fn answer(connection: UnixStream, guests: &Guests, zygote: Pid) -> ! {
    // If the zygote has ended, the shim has ended as well, and what this process makes is not needed any more.
    let alone = set_pdeathsig(Signal::SIGKILL).is_err() || getppid() != zygote;
    // SAFETY: SIG_DFL is no function. This process waits for its children and needs the default.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    if alone || wire::announce(&connection).is_err() {
        exit(1)
    }
    // There is no request if the shim could not prepare it.
    let Ok(Some(fds)) = wire::receive_fds(&connection) else { exit(1) };
    let reply = wire::read(&connection)
        .and_then(|Message { request, descriptors }| {
            let descriptors = Descriptors::pair(descriptors, fds)?;
            carry_out(request, descriptors, guests, &connection)
        })
        .unwrap_or_else(|error| {
            let was_killed = error.may_have_left_processes();
            Reply::Failed(Failure { message: error.to_string(), was_killed })
        });
    let sent = wire::write(&connection, &reply);
    exit(i32::from(sent.is_err()))
}

fn carry_out(
    request: Request,
    descriptors: Descriptors,
    guests: &Guests,
    connection: &UnixStream,
) -> Result<Reply, Error> {
    match request {
        Request::Create(create) => {
            let _span = trace::span("create");
            let fds = ProcessFds::from_descriptors(descriptors)?;
            let pid = match create.workload {
                Workload::Program => program::create(create, fds)?,
                Workload::Pause | Workload::Guest { .. } => create::create(create, fds, guests)?,
            };
            Ok(Reply::Created { pid })
        }
        Request::Exec(request) => {
            let fds = ExecFds::from_descriptors(descriptors)?;
            let pid = match request.workload {
                Workload::Program => program::exec(*request, fds.process)?,
                Workload::Pause | Workload::Guest { .. } => {
                    trace::end();
                    exec::exec(*request, fds, guests)?
                }
            };
            Ok(Reply::Created { pid })
        }
        Request::Job(job) => {
            let fds = JobFds::from_descriptors(descriptors)?;
            let given = worker::confine(job.bounds, job.charged.as_ref(), fds, connection)?;
            Ok(Reply::Job((guests.job)(job.value, given)))
        }
        Request::Change { bundle, id, change } => {
            descriptors.finish()?;
            create::change(&bundle, &id, &change).map(|()| Reply::Changed)
        }
        Request::Start { bundle, id, time } => {
            descriptors.finish()?;
            let _span = trace::span("release");
            create::start(&bundle, &id, time).map(|()| Reply::Started)
        }
        Request::Destroy { bundle, id } => {
            descriptors.finish()?;
            let _span = trace::span("destroy");
            create::destroy(&bundle, &id).map(|warning| Reply::Destroyed { warning })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_process_that_ended_before_its_request_is_known_though_it_announced_itself() {
        let (connection, mut theirs) = UnixStream::pair().expect("a pair");
        let process = RequestProcess { connection };
        assert!(!process.has_ended());
        theirs.write_all(&[1]).expect("written");
        assert!(!process.has_ended());
        drop(theirs);
        assert!(process.has_ended());
    }
}
