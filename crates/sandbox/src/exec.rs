//! A further process in a container: joins what its first process has, then is confined as that one was.
//!
//! ```text
//! request process: cgroup ─▶ namespaces and root of the first process ─▶ fork ─▶ waits for the report ─▶ answers
//!                                                                          └─ limits, user, rights ─▶ waits ─▶ workload
//! ```
//! The workload starts after the request process has answered the shim. So nothing runs that the shim does not know of,
//! whichever process is killed on the way.
//!
//! The steps are those of a first process (`isolate`), in the same order.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::Executor;
use libcontainer::{apparmor, tty};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{
    ForkResult, Pid, Uid, chdir, chroot, dup2_stderr, dup2_stdin, dup2_stdout, fchdir, fork,
    getcwd, getpid, pipe2, setsid,
};
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use crate::create::{self, Record, Recorded};
use crate::errors::chain;
use crate::isolate::process::{become_user, drop_capabilities, set_limits};
use crate::isolate::seccomp;
use crate::isolate::users::become_root;
use crate::pidfd::PidFd;
use crate::request::Given;
use crate::rlimit::Descriptors;
use crate::workload::{Isolated, Linux};
use crate::zygote::{Guests, exit};
use crate::{Error, Exec, Workload, inherit, limits, spec};

/// The process could not be made (as a shell has it).
const CANNOT_EXECUTE: i32 = 126;

/// What a process may not take away from the files it creates, unless it says otherwise (runc's).
const UMASK: u32 = 0o022;

/// Exec process that waits to run its workload.
pub struct Waiting {
    pid: Pid,
    release: OwnedFd,
}

impl Waiting {
    /// Its pid, in the shim's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Lets it continue. If this value is dropped instead, the process exits.
    pub fn release(self) {
        // It may have been killed.
        let _ = nix::unistd::write(&self.release, &[1]);
    }
}

/// Pipes between the exec process and the request process: `report` carries the reason why the workload cannot run,
/// `release` a byte when it may.
struct Pipes {
    report: OwnedFd,
    release: OwnedFd,
}

/// Makes the process and returns it when it is ready.
pub fn exec(request: Exec, fds: Vec<OwnedFd>, guests: &Guests) -> Result<Waiting, Error> {
    let Exec { id, bundle, pid, process, stdio, console, workload } = request;
    let mut fds = fds.into_iter();
    let first = fds.next().ok_or(Error::Gone { process: "request" })?;
    let first = PidFd::received(pid, first);
    let given = Given::take(stdio, console, fds)?;
    let Recorded { record: Record { create, .. }, spec } = create::recorded(&bundle)
        .ok_or_else(|| refuse("this container's record is not there any more"))?;
    let cgroup = create::cgroup(&spec, &id, create.systemd_cgroup)?;
    let mut spec = spec::fit_exec(spec, process, &create.workload, &workload, &cgroup);
    let descriptors = Descriptors::withhold(&mut spec);
    let process = spec.process().as_ref().ok_or_else(|| refuse("no process"))?;
    // Nobody in the container may look into this process, or through it at the node, from here on.
    prctl::set_dumpable(false).map_err(Error::system("hide from the container"))?;
    if let Some(score) = process.oom_score_adj() {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(Error::io("write /proc/self/oom_score_adj"))?;
    }
    cgroup.enter()?;
    join(&first, &spec)?;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(Error::system("pipe"));
    let ((reader, report), (release, writer)) = (pipe()?, pipe()?);
    // SAFETY: this process has one thread: it was forked from a process with one, and has started none.
    match unsafe { fork() }.map_err(Error::system("fork in the container"))? {
        ForkResult::Child => {
            drop((reader, writer));
            let pipes = Pipes { report, release };
            let failed = run(&spec, &workload, given, guests, descriptors, &pipes);
            let _ = nix::unistd::write(&pipes.report, failed.to_string().as_bytes());
            exit(CANNOT_EXECUTE)
        }
        ForkResult::Parent { child } => {
            drop((report, release));
            let mut reason = String::new();
            let read = File::from(reader).take(limits::ERROR_LOG_BYTES).read_to_string(&mut reason);
            read.map_err(Error::io("wait for the process"))?;
            if reason.is_empty() {
                return Ok(Waiting { pid: child, release: writer });
            }
            let _ = waitpid(child, None);
            Err(Error::Container(reason))
        }
    }
}

/// What an exec process does once it is released.
enum Executed {
    Program(Linux),
    Guest(Isolated),
}

impl Executed {
    fn new(
        workload: &Workload,
        files: Vec<File>,
        guests: &Guests,
        descriptors: Descriptors,
    ) -> Result<Executed, Error> {
        match workload {
            Workload::Linux => Ok(Executed::Program(Linux { descriptors })),
            Workload::Guest { .. } => {
                Isolated::new(workload, guests, files, None, descriptors).map(Executed::Guest)
            }
            Workload::Pause => Err(refuse("a pause is no process to execute")),
        }
    }

    /// The steps that can still fail the request.
    fn ready(&self, spec: &Spec) -> Result<(), Error> {
        match self {
            Executed::Program(program) => {
                let process = spec.process().as_ref().ok_or_else(|| refuse("no process"))?;
                program.validate(spec).map_err(|error| explain(&error))?;
                program.setup_envs(env(process)).map_err(|error| explain(&error))
            }
            Executed::Guest(guest) => guest.ready().map_err(Error::system("block signals")),
        }
    }

    fn run(self, spec: &Spec) -> ! {
        match self {
            Executed::Guest(guest) => guest.run(),
            Executed::Program(program) => {
                if let Err(error) = program.exec(spec) {
                    eprintln!("{}", chain(&error));
                }
                exit(CANNOT_EXECUTE)
            }
        }
    }
}

/// Joins the namespaces that the container has of its own, and its root. Through the descriptor: the number of a
/// process that has ended may be another's by now.
fn join(first: &PidFd, spec: &Spec) -> Result<(), Error> {
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags((OFlag::O_PATH | OFlag::O_DIRECTORY).bits());
    let root = options.open(format!("/proc/{}/root", first.pid()));
    let root = root.map_err(|_| refuse("the container has ended"))?;
    if !first.signal(0)? {
        return Err(refuse("the container has ended"));
    }
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    let kinds = namespaces.unwrap_or_default().iter().map(|namespace| flag(namespace.typ()));
    let kinds: CloneFlags = kinds.collect();
    setns(first, kinds).map_err(Error::system("join the container's namespaces"))?;
    fchdir(&root).map_err(Error::system("enter the container's root"))?;
    chroot(".").map_err(Error::system("change to the container's root"))?;
    if kinds.contains(CloneFlags::CLONE_NEWUSER) {
        become_root().map_err(Error::system("become the container's root"))?;
    }
    Ok(())
}

fn flag(kind: LinuxNamespaceType) -> CloneFlags {
    match kind {
        LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
        LinuxNamespaceType::Time => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
    }
}

/// In the new process: confines it and runs the workload; returns why that could not be.
fn run(
    spec: &Spec,
    workload: &Workload,
    mut given: Given,
    guests: &Guests,
    descriptors: Descriptors,
    pipes: &Pipes,
) -> Error {
    let confined = confine(spec, &mut given, pipes);
    let executed =
        confined.and_then(|()| Executed::new(workload, given.files, guests, descriptors));
    let executed = match executed.and_then(|it| it.ready(spec).map(|()| it)) {
        Ok(executed) => executed,
        Err(error) => return error,
    };
    // Tells the request process that the workload can run.
    close(&pipes.report);
    if nix::unistd::read(&pipes.release, &mut [0]) != Ok(1) {
        exit(128 + libc::SIGKILL)
    }
    close(&pipes.release);
    executed.run(spec)
}

/// Closes a descriptor that a guest would keep open, because it does not go through execve(2).
fn close(descriptor: &OwnedFd) {
    // SAFETY: the descriptor's owner is this process, which never gets back to use it.
    unsafe { libc::close(descriptor.as_raw_fd()) };
}

fn confine(spec: &Spec, given: &mut Given, pipes: &Pipes) -> Result<(), Error> {
    let process = spec.process().as_ref().ok_or_else(|| refuse("no process"))?;
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    setsid().map_err(Error::system("new session"))?;
    connect_stdio(given, process.user().uid())?;
    // Before anything is looked up by a path that the image or the caller chose: some lead to descriptors.
    let files = given.files.iter().map(AsRawFd::as_raw_fd);
    let pipes = [&pipes.report, &pipes.release].map(AsRawFd::as_raw_fd);
    inherit::close_unlisted(&files.chain(pipes).collect::<Vec<_>>());
    set_limits(getpid(), process.rlimits().as_deref().unwrap_or_default())?;
    if no_new_privileges {
        prctl::set_no_new_privs().map_err(Error::system("no_new_privs"))?;
    }
    if let Some(profile) = process.apparmor_profile().as_ref().filter(|it| !it.is_empty()) {
        apparmor::apply_profile(profile).map_err(|error| explain(&error))?;
    }
    umask(Mode::from_bits_truncate(process.user().umask().unwrap_or(UMASK)));
    // With the rights of the container's root first; where those do not reach, the user's may.
    let entered = chdir(process.cwd());
    become_user(process.user())?;
    if !no_new_privileges {
        filter(spec)?;
    }
    if let Some(granted) = process.capabilities() {
        drop_capabilities(granted)?;
    }
    enter_working_directory(process, entered)?;
    if no_new_privileges { filter(spec) } else { Ok(()) }
}

fn connect_stdio(given: &mut Given, uid: u32) -> Result<(), Error> {
    if let Some(console) = given.console.take() {
        // It closes the descriptor.
        tty::setup_console(
            SyscallType::Linux.create_syscall().as_ref(),
            console.into_raw_fd(),
            false,
        )
        .map_err(|error| explain(&error))?;
        let owner = Some(Uid::from_raw(uid));
        return nix::unistd::fchown(std::io::stdin(), owner, None)
            .map_err(Error::system("hand the terminal over"));
    }
    let [stdin, stdout, stderr] = std::mem::take(&mut given.stdio);
    let connected = stdin.map_or(Ok(()), dup2_stdin);
    let connected = connected.and_then(|()| stdout.map_or(Ok(()), dup2_stdout));
    let connected = connected.and_then(|()| stderr.map_or(Ok(()), dup2_stderr));
    connected.map_err(Error::system("connect stdin, stdout and stderr"))
}

fn filter(spec: &Spec) -> Result<(), Error> {
    let filter = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    Ok(filter.map_or(Ok(()), seccomp::load)?)
}

/// Where it is in fact inside the container's root: a path of the caller's choice may lead to a descriptor, and so
/// out of it.
fn enter_working_directory(process: &Process, entered: nix::Result<()>) -> Result<(), Error> {
    let place = process.cwd().display().to_string();
    let retried = entered.or_else(|_| chdir(process.cwd()));
    retried.map_err(Error::system(format!("working directory {place}")))?;
    getcwd().map(drop).map_err(Error::system(format!("working directory {place}")))
}

fn env(process: &Process) -> HashMap<String, String> {
    let split = |entry: &String| {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        (key.to_owned(), value.to_owned())
    };
    let mut env: HashMap<_, _> = process.env().iter().flatten().map(split).collect();
    env.entry("HOME".into())
        .or_insert_with(|| home(process.user().uid()).unwrap_or_else(|| "/".into()));
    env
}

/// From `/etc/passwd` (passwd(5)), which getpwuid(3) would read with libraries of the image.
fn home(uid: u32) -> Option<String> {
    let mut text = String::new();
    // A fifo of that name would keep whoever opens it waiting.
    let mut options = fs::OpenOptions::new();
    let file =
        options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open("/etc/passwd").ok()?;
    file.metadata().ok()?.is_file().then_some(())?;
    file.take(limits::PASSWD_BYTES).read_to_string(&mut text).ok()?;
    text.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let [_, _, id, _, _, home, ..] = fields[..] else { return None };
        (id.parse() == Ok(uid) && !home.is_empty()).then(|| home.to_owned())
    })
}

fn explain(error: &dyn std::error::Error) -> Error {
    Error::Container(chain(error))
}

fn refuse(reason: &str) -> Error {
    Error::Container(reason.to_owned())
}
