//! An exec process of a container. It joins the namespaces of the first process, and is then confined as that one was.
//!
//! ```text
//! request process: cgroup ─▶ namespaces and root of the first process ─▶ fork ─▶ waits for the report ─▶ answers
//!                                                                          └─ limits, user, rights ─▶ waits ─▶ workload
//! ```
//! The shim releases the workload when it has the answer. So the shim knows every process that runs, and the workload
//! runs even if the request process is killed.
//!
//! The steps are those of a first process (`isolate`), in the same order.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, chdir, chroot, fchdir, fork, getcwd, getpid, pipe2, setsid};
use oci_spec::runtime::{Process, Spec};

use crate::child::exit;
use crate::guests::Guests;
use crate::isolate::namespaces::flag;
use crate::isolate::process::{
    become_user, connect_stdio, drop_capabilities, set_limits, set_umask,
};
use crate::isolate::seccomp;
use crate::isolate::users::become_root;
use crate::pidfd::PidFd;
use crate::record;
use crate::request::ExecFds;
use crate::rlimit::OpenFiles;
use crate::workload::Isolated;
use crate::{Error, Exec, ProcessFds, Workload, inherit, keyring, limits, spec};

/// Exit code of a process that could not be made, as of a shell.
const CANNOT_EXECUTE: i32 = 126;

/// Pipes of the exec process. By `report` the request process learns why the workload cannot run; by `release` the shim sends
/// a byte when it may run.
struct Pipes {
    report: OwnedFd,
    release: OwnedFd,
}

/// Makes the process and returns its pid in the shim's pid namespace. The process then waits until the shim releases it.
pub fn exec(request: Exec, fds: ExecFds, guests: &Guests) -> Result<i32, Error> {
    let Exec { id, bundle, pid, process, workload, .. } = request;
    let ExecFds { first, release, process: fds } = fds;
    let first = PidFd::received(pid, first);
    let recorded = record::recorded(&bundle)
        .ok_or_else(|| refuse("this container's record is not there any more"))?;
    let cgroup = recorded.cgroup(&id)?;
    let process =
        serde_json::from_value(process).map_err(Error::malformed("read the process to execute"))?;
    let mut spec = spec::fit_exec(recorded.spec, process, &cgroup);
    let open_files = OpenFiles::withhold(&mut spec);
    let process = spec.process().as_ref().ok_or_else(|| refuse("no process"))?;
    // From here on a process of the container must not look into this one, or through it at the node.
    prctl::set_dumpable(false).map_err(Error::system("hide from the container"))?;
    if let Some(score) = process.oom_score_adj() {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(Error::io("write /proc/self/oom_score_adj"))?;
    }
    cgroup.enter()?;
    // This must come before the change of user, as for a first process.
    keyring::leave().map_err(Error::system("leave the session keyring"))?;
    join(&first, &spec)?;
    let (reader, report) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("make a pipe"))?;
    // SAFETY: this process has one thread: it was forked from a process with one, and has started none.
    match unsafe { fork() }.map_err(Error::system("fork in the container"))? {
        ForkResult::Child => {
            drop(reader);
            let pipes = Pipes { report, release };
            let failed = run(&spec, &workload, fds, guests, open_files, &pipes);
            let _ = nix::unistd::write(&pipes.report, failed.to_string().as_bytes());
            exit(CANNOT_EXECUTE)
        }
        ForkResult::Parent { child } => {
            drop((report, release));
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

/// Joins the container's own namespaces, and its root. It uses the descriptor, because the pid of a process that has ended may
/// be reused.
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

/// Confines the new process, which calls this, and runs the workload. Returns only if it cannot run, with the reason.
fn run(
    spec: &Spec,
    workload: &Workload,
    mut fds: ProcessFds,
    guests: &Guests,
    open_files: OpenFiles,
    pipes: &Pipes,
) -> Error {
    let confined = confine(spec, &mut fds, pipes);
    let guest = confined
        .and_then(|()| Isolated::new(workload, guests, fds.guest, None, open_files))
        .and_then(|it| it.ready().map(|()| it).map_err(Error::system("block signals")));
    let guest = match guest {
        Ok(guest) => guest,
        Err(error) => return error,
    };
    // The end of this pipe reports to the request process that the workload can run.
    close(&pipes.report);
    let workload = guest.load();
    if nix::unistd::read(&pipes.release, &mut [0]) != Ok(1) {
        exit(128 + libc::SIGKILL)
    }
    close(&pipes.release);
    workload.run()
}

/// Closes a descriptor. A guest would keep it open, because it does not go through execve(2).
fn close(descriptor: &OwnedFd) {
    // SAFETY: the descriptor's owner is this process, which never gets back to use it.
    unsafe { libc::close(descriptor.as_raw_fd()) };
}

fn confine(spec: &Spec, fds: &mut ProcessFds, pipes: &Pipes) -> Result<(), Error> {
    let process = spec.process().as_ref().ok_or_else(|| refuse("no process"))?;
    setsid().map_err(Error::system("begin a session"))?;
    connect_stdio(std::mem::take(&mut fds.stdio))
        .map_err(Error::system("connect stdin, stdout and stderr"))?;
    // This must come before any lookup of a path that the image or the caller chose, because such a path may lead to a
    // descriptor.
    let mut kept = fds.guest.numbers();
    kept.extend([&pipes.report, &pipes.release].map(AsRawFd::as_raw_fd));
    inherit::close_unlisted(&kept).map_err(Error::system("close the runtime's descriptors"))?;
    set_limits(getpid(), process.rlimits().as_deref().unwrap_or_default())?;
    prctl::set_no_new_privs().map_err(Error::system("set no_new_privs"))?;
    set_umask(process.user());
    // First with the rights of the container's root, then with those of the user: either may be needed.
    let entered = chdir(process.cwd());
    become_user(process.user())?;
    if let Some(granted) = process.capabilities() {
        drop_capabilities(granted)?;
    }
    enter_working_directory(process, entered)?;
    Ok(seccomp::load(spec)?)
}

/// Enters the working directory, which must be inside the container's root: a path that the caller chose may lead to a
/// descriptor, and so out of it.
fn enter_working_directory(process: &Process, entered: nix::Result<()>) -> Result<(), Error> {
    let directory = process.cwd().display().to_string();
    let retried = entered.or_else(|_| chdir(process.cwd()));
    retried.map_err(Error::system(format!("enter the working directory {directory}")))?;
    getcwd().map(drop).map_err(Error::system(format!("enter the working directory {directory}")))
}

fn refuse(reason: &str) -> Error {
    Error::Container(reason.to_owned())
}
