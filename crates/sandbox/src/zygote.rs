//! The zygote: a single-threaded child of the shim that forks a process for every request.
//!
//! ```text
//! shim ──datagram: connection + descriptors──▶ zygote ──fork──▶ request process ──JSON reply──▶ shim
//!                                                               └─ container (orphaned to the shim,
//!                                                                  which is the child subreaper)
//! ```
//! It is forked before the shim has a thread, so that its children may use the whole C library; it builds
//! its [`Guests`] once (an engine, linkers), which every container then shares copy-on-write. It ends when
//! the shim does, since its socket is then closed. A container does not depend on it: the request process
//! that built the container has exited by the time the shim hears of it, and the container is the shim's child.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};

use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid};
use serde_json::Value;

use crate::pidfd::PidFd;
use crate::{Error, Failure, Reply, Request, create, errors, exec, inherit, wire, worker};

/// What the zygote can do with guests; made in the zygote, after the fork.
#[derive(Clone)]
pub struct Guests {
    /// Runs in a worker without privileges: a request's value and descriptors in, a value out.
    pub job: Rc<dyn Fn(Value, Vec<File>) -> Value>,
    /// Runs in the isolated process, in place of a program: the workload's value and its files in, an exit code
    /// out.
    pub run: Rc<dyn Fn(Value, Vec<File>) -> u8>,
    /// The signals that `run` takes: blocked from before Create answers, so that one may be pending.
    pub signals: SigSet,
    /// What the results of jobs depend on beside what they are given ([`Zygote::version`]).
    pub version: String,
}

/// The shim's side of its zygote.
#[derive(Debug)]
pub struct Zygote {
    pid: Pid,
    socket: OwnedFd,
    version: Mutex<Option<String>>,
}

impl Zygote {
    /// Forks the zygote.
    ///
    /// To be called before the process has a second thread: the child goes on to use the allocator.
    pub fn fork(guests: impl FnOnce() -> Guests) -> Result<Zygote, Error> {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(Error::system("socket pair of the zygote"))?;
        // SAFETY: this process has one thread (documented above), so the child finds every lock free.
        match unsafe { fork() }.map_err(Error::system("fork the zygote"))? {
            ForkResult::Parent { child } => {
                Ok(Zygote { pid: child, socket: ours, version: Mutex::default() })
            }
            ForkResult::Child => {
                drop(ours);
                // The shim's listener among them: it must not outlive the shim in one of its children.
                inherit::close_all_but(&[theirs.as_raw_fd()]);
                trace::process("zygote");
                let guests = guests();
                wire::send_text(&theirs, &guests.version);
                serve(theirs, &guests)
            }
        }
    }

    /// The zygote's process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// What its [`Guests::version`] is: with another one, a job's result may be another. Blocks until they are made.
    ///
    /// # Errors
    /// [`Error::Gone`] when the zygote was killed before.
    pub fn version(&self) -> Result<String, Error> {
        // A panic cannot leave it half written.
        let mut version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        if version.is_none() {
            *version = Some(wire::receive_text(&self.socket)?);
        }
        Ok(version.clone().unwrap_or_default())
    }

    /// Has a container taken away, and returns what went wrong without keeping it from going. Blocks. Where the
    /// zygote is gone, it is done here.
    pub fn destroy(&self, bundle: &Path, id: &str) -> Result<Option<String>, Error> {
        let request = Request::Destroy { bundle: bundle.to_owned(), id: id.to_owned() };
        match self.call(&request, &[]) {
            Ok(Reply::Destroyed { warning }) => Ok(warning),
            Ok(_) | Err(Error::Gone { .. }) => create::destroy(bundle, id),
            Err(error) => Err(error),
        }
    }

    /// Has a process made by [`Request::Create`] or [`Request::Exec`]. Blocks.
    ///
    /// # Errors
    /// As [`Zygote::call`].
    pub fn make(&self, request: &Request, fds: &[OwnedFd]) -> Result<PidFd, Error> {
        match self.call(request, fds)? {
            Reply::Created { pid } => PidFd::open(Pid::from_raw(pid)),
            _ => Err(Error::Gone { process: "request" }),
        }
    }

    /// Has a request carried out and waits for the answer. Blocks.
    ///
    /// # Errors
    /// [`Error::Gone`] when the zygote or the request's process was killed, [`Error::Worker`] when that was one
    /// for a job; [`Error::Container`] with the reason when the request failed.
    pub fn call(&self, request: &Request, fds: &[OwnedFd]) -> Result<Reply, Error> {
        let (ours, theirs) = UnixStream::pair().map_err(Error::io("socket pair of a request"))?;
        let mut all = vec![theirs.as_raw_fd()];
        all.extend(fds.iter().map(|fd| fd.as_raw_fd()));
        wire::send_fds(&self.socket, &all)?;
        drop(theirs);
        wire::write(&ours, request)?;
        match (wire::read(&ours, "request"), request) {
            (Ok(Reply::Failed(failure)), _) => Err(Error::Container(failure.message)),
            (Err(Error::Gone { .. }), Request::Job { bounds, .. }) => Err(Error::Worker(*bounds)),
            (reply, _) => reply,
        }
    }
}

/// The zygote's life: fork for every connection until the shim is gone.
fn serve(socket: OwnedFd, guests: &Guests) -> ! {
    let _ = nix::sys::prctl::set_name(c"wasmtime-zygote");
    trace::mark("ready");
    errors::install();
    // Request processes are nobody's to wait for: the kernel reaps them.
    // SAFETY: SIG_IGN is no function, and this process has no other handler for SIGCHLD.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
    let zygote = getpid();
    loop {
        let Ok(Some(fds)) = wire::receive_fds(&socket) else { exit(0) };
        // SAFETY: this process has one thread: it was forked from a process with one, and starts none.
        match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                // Who has it open, as containers that wait for their start would, keeps the shim from seeing that the
                // zygote is gone.
                drop(socket);
                trace::process("request");
                answer(fds, guests, zygote)
            }
            // The connection is dropped, which the shim reads as "ended before it answered".
            Ok(ForkResult::Parent { .. }) | Err(_) => drop(fds),
        }
    }
}

/// The request process: reads one request, carries it out, answers, exits.
fn answer(mut fds: Vec<OwnedFd>, guests: &Guests, zygote: Pid) -> ! {
    // What it makes is nobody's to use when there is no shim any more, and with it no zygote.
    let alone = set_pdeathsig(Signal::SIGKILL).is_err() || getppid() != zygote;
    // SAFETY: SIG_DFL is no function; libcontainer waits for its children and needs the default.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
    if fds.is_empty() || alone {
        exit(1)
    }
    let connection = UnixStream::from(fds.remove(0));
    let reply = wire::read(&connection, "shim")
        .and_then(|request| carry_out(request, fds, guests, &connection))
        .unwrap_or_else(|error| Reply::Failed(Failure { message: error.to_string() }));
    let sent = wire::write(&connection, &reply);
    exit(i32::from(sent.is_err()))
}

fn carry_out(
    request: Request,
    fds: Vec<OwnedFd>,
    guests: &Guests,
    connection: &UnixStream,
) -> Result<Reply, Error> {
    match request {
        Request::Create(create) => {
            let _span = trace::span("create");
            create::create(create, fds, guests).map(|pid| Reply::Created { pid })
        }
        Request::Exec(request) => {
            trace::end();
            exec::exec(*request, fds, guests).map(|pid| Reply::Created { pid })
        }
        Request::Start { bundle, id } => {
            let _span = trace::span("release");
            create::start(&bundle, &id).map(|()| Reply::Started)
        }
        Request::Destroy { bundle, id } => {
            let _span = trace::span("destroy");
            create::destroy(&bundle, &id).map(|warning| Reply::Destroyed { warning })
        }
        Request::Job { value, bounds } => {
            let files = worker::confine(bounds, fds, connection)?;
            Ok(Reply::Job((guests.job)(value, files)))
        }
    }
}

/// Ends a forked process at once, without the exit handlers of the process it is a copy of.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}
