//! Confines a process before it parses what nobody has vouched for.
//!
//! Order matters: namespaces and root while we may, limits before the user changes (they are the user's
//! from then on), the user last; `no_new_privs` keeps it so. What is left is memory, processor time and
//! the descriptors of the job.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid, chdir, chroot, setgroups, setresgid, setresuid};

use crate::{Error, inherit, limits};

/// Takes everything from this process but `fds` and the connection on which it answers.
pub fn confine(fds: Vec<OwnedFd>, connection: &UnixStream) -> Result<Vec<File>, Error> {
    let mut kept: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    kept.push(connection.as_raw_fd());
    inherit::close_all_but(&kept);
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(Error::system("die with the zygote"))?;
    let _ = nix::sys::prctl::set_name(c"wasm-compile");
    enter_empty_root()?;
    limit_resources()?;
    become_nobody()?;
    Ok(fds.into_iter().map(File::from).collect())
}

/// Own namespaces without network, and an empty read-only root.
fn enter_empty_root() -> Result<(), Error> {
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(namespaces).map_err(Error::system("namespaces of the worker"))?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Error::system("make the worker's mounts private"))?;
    // Any directory will do as the place of the new root; /proc is always there.
    let root = Path::new("/proc");
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), root, Some("tmpfs"), flags, Some("size=4k"))
        .map_err(Error::system("empty root of the worker"))?;
    chroot(root).map_err(Error::system("change the worker's root"))?;
    chdir("/").map_err(Error::system("enter the worker's root"))
}

fn limit_resources() -> Result<(), Error> {
    let limits = [
        (Resource::RLIMIT_CPU, limits::WORKER_CPU_SECONDS),
        (Resource::RLIMIT_AS, limits::WORKER_ADDRESS_SPACE),
        (Resource::RLIMIT_FSIZE, limits::WORKER_FILE_BYTES),
        (Resource::RLIMIT_CORE, 0),
    ];
    for (resource, value) in limits {
        setrlimit(resource, value, value)
            .map_err(Error::system(format!("limit the worker's {resource:?}")))?;
    }
    Ok(())
}

/// The change of user from root takes every capability along.
fn become_nobody() -> Result<(), Error> {
    let (user, group) = (Uid::from_raw(limits::WORKER_ID), Gid::from_raw(limits::WORKER_ID));
    setgroups(&[]).map_err(Error::system("drop the worker's groups"))?;
    setresgid(group, group, group).map_err(Error::system("change the worker's group"))?;
    setresuid(user, user, user).map_err(Error::system("change the worker's user"))?;
    nix::sys::prctl::set_no_new_privs().map_err(Error::system("no_new_privs of the worker"))
}
