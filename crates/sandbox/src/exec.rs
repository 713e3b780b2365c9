//! A further process in a container: joins what its first process has, then is confined as that one was.
//!
//! ```text
//! request process: cgroup ─▶ namespaces and root of the first process ─▶ fork ─▶ waits for the pipe's end
//!                                                                          └─ limits, user, rights ─▶ workload
//! ```
//! libcontainer's own way to do this leaves the seccomp filter out. The steps here are its own for a first
//! process, in the same order, and taken from it where it offers them.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;

use libcontainer::syscall::Syscall;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::Executor;
use libcontainer::{apparmor, capabilities, seccomp, tty};
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{
    ForkResult, Gid, Uid, chdir, chroot, dup2_stderr, dup2_stdin, dup2_stdout, fchdir, fork,
    getcwd, pipe2, setgroups, setresgid, setresuid, setsid,
};
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use crate::create::{self, Recorded};
use crate::errors::{self, chain};
use crate::pidfd::PidFd;
use crate::workload::{Guest, Linux};
use crate::zygote::{Guests, exit};
use crate::{Error, Exec, Workload, inherit, limits, spec};

/// The process could not be made (as a shell has it).
const CANNOT_EXECUTE: i32 = 126;

/// What a process may not take away from the files it creates, unless it says otherwise (runc's).
const UMASK: u32 = 0o022;

/// The descriptors of a request, by what they are for.
struct Given {
    first: PidFd,
    stdio: [Option<OwnedFd>; 3],
    code: Option<Rc<File>>,
    console: Option<OwnedFd>,
}

/// Starts the process and returns it once it is about to run its workload.
pub fn exec(request: Exec, fds: Vec<OwnedFd>, guests: &Guests) -> Result<i32, Error> {
    errors::begin();
    let given = Given::of(&request, fds)?;
    let Recorded { create, spec } = create::recorded(&request.bundle)
        .ok_or_else(|| refuse("this container's record is not there any more"))?;
    let cgroup = create::cgroup(&spec, &request.id, create.systemd_cgroup)?;
    let (first, next) = (&create.workload, &request.workload);
    let spec = spec::fit_exec(spec, request.process, first, next, cgroup.is_unified());
    let process = spec.process().as_ref().ok_or_else(|| refuse("no process"))?;
    // Nobody in the container may look into this process, or through it at the node, from here on.
    prctl::set_dumpable(false).map_err(Error::system("hide from the container"))?;
    if let Some(score) = process.oom_score_adj() {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(Error::io("write /proc/self/oom_score_adj"))?;
    }
    cgroup.enter()?;
    join(&given.first, &spec)?;
    let executor = executor(&request.workload, &given, guests)?;
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("pipe"))?;
    // SAFETY: this process has one thread: it was forked from a process with one, and has started none.
    match unsafe { fork() }.map_err(Error::system("fork in the container"))? {
        ForkResult::Child => {
            drop(reader);
            let failed = run(&spec, given, executor.as_ref(), &writer);
            let _ = File::from(writer).write_all(failed.to_string().as_bytes());
            exit(CANNOT_EXECUTE)
        }
        ForkResult::Parent { child } => {
            drop(writer);
            let mut reason = String::new();
            let read = File::from(reader).take(limits::ERROR_LOG_BYTES).read_to_string(&mut reason);
            read.map_err(Error::io("wait for the process"))?;
            if reason.is_empty() {
                return Ok(child.as_raw());
            }
            let _ = waitpid(child, None);
            Err(Error::Container(reason))
        }
    }
}

impl Given {
    fn of(request: &Exec, fds: Vec<OwnedFd>) -> Result<Given, Error> {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or(Error::Gone { process: "request" });
        let first = PidFd::received(request.pid, next()?);
        let mut stdio = [None, None, None];
        for (stream, given) in stdio.iter_mut().zip(request.stdio) {
            *stream = given.then(&mut next).transpose()?;
        }
        let is_guest = matches!(request.workload, Workload::Guest(_));
        let code = is_guest.then(&mut next).transpose()?.map(|fd| Rc::new(File::from(fd)));
        let console = request.console.then(next).transpose()?;
        Ok(Given { first, stdio, code, console })
    }

    fn kept(&self) -> Vec<RawFd> {
        let code = self.code.iter().map(|file| file.as_raw_fd());
        code.chain(errors::descriptor()).collect()
    }
}

fn executor(
    workload: &Workload,
    given: &Given,
    guests: &Guests,
) -> Result<Box<dyn Executor>, Error> {
    match (workload, &given.code) {
        (Workload::Linux, _) => Ok(Box::new(Linux)),
        (Workload::Guest(value), Some(code)) => {
            Ok(Box::new(Guest { guests: guests.clone(), value: value.clone(), code: code.clone() }))
        }
        (Workload::Guest(_), None) | (Workload::Pause, _) => Err(refuse("nothing to execute")),
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
        set_ids(0, 0)?;
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
fn run(spec: &Spec, given: Given, executor: &dyn Executor, report: &OwnedFd) -> Error {
    let prepared = confine(spec, given, report)
        .and_then(|()| executor.validate(spec).map_err(|error| Error::Container(chain(&error))))
        .and_then(|()| set_env(spec, executor));
    if let Err(error) = prepared {
        return error;
    }
    // A guest does not go through execve(2), which would close it. Nothing more is told through it.
    // SAFETY: the descriptor's owner is this process, which never gets back to use it.
    unsafe { libc::close(report.as_raw_fd()) };
    let Err(error) = executor.exec(spec) else { exit(CANNOT_EXECUTE) };
    eprintln!("{}", chain(&error));
    exit(CANNOT_EXECUTE)
}

fn confine(spec: &Spec, mut given: Given, report: &OwnedFd) -> Result<(), Error> {
    let syscalls = syscalls();
    let process = spec.process().as_ref().ok_or_else(|| refuse("no process"))?;
    let no_new_privileges = process.no_new_privileges().unwrap_or(false);
    setsid().map_err(Error::system("new session"))?;
    connect_stdio(&mut given, process.user().uid())?;
    // Before anything is looked up by a path that the image or the caller chose: some lead to descriptors.
    let kept: Vec<RawFd> = given.kept().into_iter().chain([report.as_raw_fd()]).collect();
    inherit::close_unlisted(&kept);
    for limit in process.rlimits().iter().flatten() {
        syscalls.set_rlimit(limit).map_err(|error| explain(&error))?;
    }
    if no_new_privileges {
        prctl::set_no_new_privs().map_err(Error::system("no_new_privs"))?;
    }
    if let Some(profile) = process.apparmor_profile().as_ref().filter(|it| !it.is_empty()) {
        apparmor::apply_profile(profile).map_err(|error| explain(&error))?;
    }
    umask(Mode::from_bits_truncate(process.user().umask().unwrap_or(UMASK)));
    // With the rights of the container's root first; where those do not reach, the user's may.
    let entered = chdir(process.cwd());
    become_user(process)?;
    if !no_new_privileges {
        filter(spec)?;
    }
    if let Some(granted) = process.capabilities() {
        capabilities::drop_privileges(granted, syscalls.as_ref())
            .map_err(|error| explain(&error))?;
    }
    enter_working_directory(process, entered)?;
    if no_new_privileges { filter(spec) } else { Ok(()) }
}

fn connect_stdio(given: &mut Given, uid: u32) -> Result<(), Error> {
    if let Some(console) = given.console.take() {
        // It closes the descriptor.
        tty::setup_console(syscalls().as_ref(), console.into_raw_fd(), false)
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

fn become_user(process: &Process) -> Result<(), Error> {
    let user = process.user();
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(Error::system("join the groups"))?;
    // Which of its capabilities it keeps is decided later.
    prctl::set_keepcaps(true).map_err(Error::system("keep capabilities"))?;
    set_ids(user.uid(), user.gid())?;
    // The change of user took them out of effect, and loading a seccomp filter takes one.
    capabilities::reset_effective(syscalls().as_ref()).map_err(|error| explain(&error))?;
    prctl::set_keepcaps(false).map_err(Error::system("keep capabilities"))
}

fn set_ids(uid: u32, gid: u32) -> Result<(), Error> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(gid, gid, gid).map_err(Error::system("change the group"))?;
    setresuid(uid, uid, uid).map_err(Error::system("change the user"))
}

/// A listener's filter (`SCMP_ACT_NOTIFY`) would need the descriptor sent to it, which only a first process's is.
fn filter(spec: &Spec) -> Result<(), Error> {
    let Some(filter) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) else {
        return Ok(());
    };
    if seccomp::is_notify(filter) {
        return Err(refuse("its seccomp profile asks a listener (SCMP_ACT_NOTIFY)"));
    }
    seccomp::initialize_seccomp(filter).map(drop).map_err(|error| explain(&error))
}

/// Where it is in fact inside the container's root: a path of the caller's choice may lead to a descriptor, and so
/// out of it.
fn enter_working_directory(process: &Process, entered: nix::Result<()>) -> Result<(), Error> {
    let place = process.cwd().display().to_string();
    let retried = entered.or_else(|_| chdir(process.cwd()));
    retried.map_err(Error::system(format!("working directory {place}")))?;
    getcwd().map(drop).map_err(Error::system(format!("working directory {place}")))
}

fn set_env(spec: &Spec, executor: &dyn Executor) -> Result<(), Error> {
    let process = spec.process().as_ref();
    let list = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
    let split = |entry: &String| {
        let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
        (key.to_owned(), value.to_owned())
    };
    let mut env: HashMap<_, _> = list.iter().map(split).collect();
    let uid = process.map_or(0, |process| process.user().uid());
    if !env.contains_key("HOME") {
        env.insert("HOME".into(), home(uid).unwrap_or_else(|| "/".into()));
    }
    executor.setup_envs(env).map_err(|error| Error::Container(chain(&error)))
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

fn syscalls() -> Box<dyn Syscall> {
    SyscallType::Linux.create_syscall()
}

fn explain(error: &dyn std::error::Error) -> Error {
    Error::Container(chain(error))
}

fn refuse(reason: &str) -> Error {
    Error::Container(reason.to_owned())
}
