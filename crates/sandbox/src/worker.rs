//! Confinement of a process before it parses untrusted input.
//!
//! The order matters. The cgroup comes first, while it is visible. Then namespaces and root, while the process may change
//! them, and the limits, which apply to the new user. The user comes last, and `no_new_privs` makes that final. What is left
//! is memory, processor time, the descriptors of the job, and child processes, which end with the worker because it is the
//! first process of a pid namespace. Its parent, the request process, ends it in time and reports how it ended (`keeper`).

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Gid, Uid, chdir, chroot, fork, setgroups, setresgid, setresuid};

use crate::cgroup::Cgroup;
use crate::record;
use crate::{
    Bounds, Charged, Descriptors, Error, JobFds, SingleThread, confine, environment, inherit,
    keyring, limits,
};

mod keeper;

use keeper::Keeper;
pub use keeper::Leash;

/// Takes everything from this process but `fds` and the connection on which it answers. Returns the job's descriptors.
pub fn confine(
    bounds: Bounds,
    charged: Option<&Charged>,
    fds: JobFds,
    connection: &UnixStream,
) -> Result<Descriptors, Error> {
    trace::end();
    let JobFds { leash, guest } = fds;
    let mut kept = guest.numbers();
    kept.extend([connection.as_raw_fd(), leash.as_raw_fd()]);
    inherit::close_all_but(&kept).map_err(Error::system("close the runtime's descriptors"))?;
    keyring::leave().map_err(Error::system("leave the session keyring"))?;
    let cgroup = charged.map(cgroup).transpose()?;
    let counted = cgroup.map(|cgroup| {
        let kills = cgroup.oom_kills().unwrap_or_default();
        (cgroup, kills)
    });
    let keeper = become_first_process(Keeper { bounds, leash, connection, cgroup: counted })?;
    if let Some((cgroup, _)) = &keeper.cgroup {
        cgroup.enter()?;
    }
    drop(keeper);
    let _ = nix::sys::prctl::set_name(c"wasm-compile");
    // SAFETY: this process was forked from one with one thread, and has started none.
    environment::clear(&unsafe { SingleThread::assume() });
    // This needs /proc, so it comes before the change of root.
    fs::write("/proc/self/oom_score_adj", limits::WORKER_OOM_SCORE_ADJ)
        .map_err(Error::io("make the worker the first to go when memory runs out"))?;
    enter_empty_root()?;
    limit_resources(bounds)?;
    become_nobody()?;
    // This must come after the change of user, which resets it (prctl(2), PR_SET_PDEATHSIG).
    die_with_the_parent()?;
    confine::load()?;
    Ok(guest)
}

fn cgroup(charged: &Charged) -> Result<Cgroup, Error> {
    let recorded = record::recorded(&charged.bundle)
        .ok_or_else(|| Error::Container(format!("container {} is gone", charged.id)))?;
    recorded.cgroup(&charged.id)
}

/// Forks the first process of a pid namespace and returns in it; the parent becomes its keeper.
fn become_first_process(keeper: Keeper<'_>) -> Result<Keeper<'_>, Error> {
    die_with_the_parent()?;
    unshare(CloneFlags::CLONE_NEWPID)
        .map_err(Error::system("make a pid namespace for the worker"))?;
    // SAFETY: this process has one thread: it was forked from a process with one, and has started none.
    match unsafe { fork() }.map_err(Error::system("fork the worker"))? {
        ForkResult::Child => Ok(keeper),
        ForkResult::Parent { child } => keeper.keep(child),
    }
}

fn die_with_the_parent() -> Result<(), Error> {
    set_pdeathsig(Signal::SIGKILL).map_err(Error::system("die with the zygote"))
}

/// Enters new namespaces, without network, and an empty read-only root.
fn enter_empty_root() -> Result<(), Error> {
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(namespaces).map_err(Error::system("make namespaces for the worker"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Error::system("make the worker's mounts private"))?;
    // Any directory can be the mount point of the new root; /proc always exists.
    let root = Path::new("/proc");
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some("size=4k"))
        .map_err(Error::system("make an empty root for the worker"))?;
    chroot(root).map_err(Error::system("change the worker's root"))?;
    chdir("/").map_err(Error::system("enter the worker's root"))
}

fn limit_resources(bounds: Bounds) -> Result<(), Error> {
    // If it fails, the worker only takes processor time from others.
    let _ = rustix::process::nice(limits::WORKER_NICENESS);
    // The keeper ends it earlier, unless the keeper was stopped.
    let seconds = bounds.time.as_secs().saturating_add(1);
    let processors = thread::available_parallelism().map_or(1, |it| it.get() as u64);
    let reserved = limits::WORKER_RESERVED + processors.saturating_mul(limits::THREAD_RESERVED);
    let limits = [
        (Resource::RLIMIT_CPU, seconds.saturating_mul(processors)),
        (Resource::RLIMIT_DATA, bounds.memory),
        (Resource::RLIMIT_AS, bounds.memory.saturating_add(reserved)),
        (Resource::RLIMIT_FSIZE, limits::WORKER_FILE_BYTES),
        (Resource::RLIMIT_CORE, 0),
    ];
    for (resource, value) in limits {
        setrlimit(resource, value, value)
            .map_err(Error::system(format!("limit the worker's {resource:?}")))?;
    }
    Ok(())
}

/// Changes the user. The change from root drops every capability.
fn become_nobody() -> Result<(), Error> {
    let (user, group) = (Uid::from_raw(limits::WORKER_ID), Gid::from_raw(limits::WORKER_ID));
    setgroups(&[]).map_err(Error::system("drop the worker's groups"))?;
    setresgid(group, group, group).map_err(Error::system("change the worker's group"))?;
    setresuid(user, user, user).map_err(Error::system("change the worker's user"))?;
    nix::sys::prctl::set_no_new_privs().map_err(Error::system("set no_new_privs of the worker"))
}
