//! Namespaces of an isolated process: those that are made with it, and those that it joins.
//!
//! The process that makes the isolated one joins namespaces for it, and then returns to its own. It may enter any
//! namespace, while a process in a new user namespace cannot enter the network namespace of its Pod, which was made
//! outside of it. A process cannot leave a user namespace that it has joined. So if one must be joined, a separate
//! process joins it, makes the isolated process, and ends.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, chdir, chroot, fchdir, fork, pipe2, write};
use oci_spec::runtime::{LinuxNamespaceType, LinuxTimeOffset, Spec};

use super::errors::{Failed, Step};
use super::{table, users};
use crate::child::exit;
use crate::syscalls;

/// Namespaces of an isolated process.
#[derive(Debug)]
pub struct Namespaces {
    /// New namespaces, as flags of clone3(2).
    made: CloneFlags,
    joined: Vec<Joined>,
    user: Option<Joined>,
    /// Offsets of the clocks, for a new time namespace (time_namespaces(7)).
    clocks: Option<String>,
}

#[derive(Debug)]
struct Joined {
    flag: CloneFlags,
    /// Name in `/proc/PID/ns`.
    name: &'static str,
    file: File,
}

/// Flag of the time namespace, which nix does not have.
const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

impl Namespaces {
    /// Opens the namespaces of the spec that are to be joined. A mount namespace must be a new one.
    pub fn open(spec: &Spec) -> Result<Namespaces, Failed> {
        let linux = spec.linux().as_ref();
        let listed = linux.and_then(|linux| linux.namespaces().as_deref()).unwrap_or_default();
        let made = CloneFlags::empty();
        let mut all = Namespaces { made, joined: Vec::new(), user: None, clocks: None };
        for namespace in listed {
            let (flag, name) = kind(namespace.typ());
            match namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()) {
                None => all.made |= flag,
                Some(path) => all.join(flag, name, path)?,
            }
        }
        if !all.made.contains(CloneFlags::CLONE_NEWNS) {
            let reason = "a guest needs a mount namespace of its own";
            return Err(Failed::new(Step::Spec("linux.namespaces".into()), reason));
        }
        if all.made.contains(NEWTIME) {
            let offsets = linux.and_then(|linux| linux.time_offsets().as_ref());
            all.clocks = Some(clocks(offsets.into_iter().flatten()));
        }
        Ok(all)
    }

    fn join(&mut self, flag: CloneFlags, name: &'static str, path: &Path) -> Result<(), Failed> {
        let failed = Failed::at(Step::Join(name.into(), path.to_owned()));
        let file = File::open(path).map_err(failed)?;
        let joined = Joined { flag, name, file };
        match flag {
            CloneFlags::CLONE_NEWUSER => self.user = Some(joined),
            _ => self.joined.push(joined),
        }
        Ok(())
    }

    /// Joins the namespace with the short mount table, if there is one.
    pub fn with_short_table(&mut self) -> bool {
        let Some(file) = table::get().and_then(|table| table.try_clone().ok()) else {
            return false;
        };
        self.joined.push(Joined { flag: CloneFlags::CLONE_NEWNS, name: "mnt", file });
        true
    }

    /// Whether a new namespace of that kind is made.
    pub fn makes(&self, flag: CloneFlags) -> bool {
        self.made.contains(flag)
    }

    /// Whether the process is in another user namespace than the host's.
    pub fn has_user(&self) -> bool {
        self.user.is_some() || self.makes(CloneFlags::CLONE_NEWUSER)
    }

    /// Makes the process, which is always a child of this one. Returns `None` in the new process.
    pub fn clone(&self, cgroup: Option<BorrowedFd<'_>>) -> Result<Option<Pid>, Failed> {
        if self.user.is_some() {
            return self.clone_by_another();
        }
        let back = Back::open(self).map_err(Failed::at(Step::Clone))?;
        let made = self.enter(&self.joined).and_then(|()| self.fork(cgroup, 0));
        if let Ok(None) = made {
            return Ok(None);
        }
        back.go().map_err(Failed::at(Step::Clone))?;
        made.map_err(Failed::at(Step::Clone))
    }

    fn enter<'a>(&self, joined: impl IntoIterator<Item = &'a Joined>) -> nix::Result<()> {
        if let Some(clocks) = &self.clocks {
            // Processes that are made from here on are in it. The clocks can only be set before that.
            unshare(NEWTIME)?;
            fs::write("/proc/self/timens_offsets", clocks).map_err(|_| Errno::EINVAL)?;
        }
        // The mount namespace must be the last one, because it has no /proc.
        joined.into_iter().try_for_each(|namespace| setns(&namespace.file, namespace.flag))
    }

    fn fork(&self, cgroup: Option<BorrowedFd<'_>>, more: u64) -> nix::Result<Option<Pid>> {
        // A cgroup namespace has the cgroup of its maker as its root. So the process makes it once it is in its cgroup.
        let made = self.made - CloneFlags::CLONE_NEWCGROUP - NEWTIME;
        let flags = made.bits() as u32 as u64 | more;
        // SAFETY: request processes have one thread.
        unsafe {
            match syscalls::fork_with(flags, cgroup) {
                // Kernels before 5.7 have no CLONE_INTO_CGROUP. There the process is moved to its cgroup before it continues.
                Err(Errno::E2BIG | Errno::EINVAL) if cgroup.is_some() => {
                    syscalls::fork_with(flags, None)
                }
                other => other,
            }
        }
    }

    /// Makes the process by a further process, which ends afterwards. That one enters the user namespace, and then has no rights
    /// outside of it, such as to make a process in a cgroup of the node. So the new process is moved to its cgroup before it
    /// continues.
    fn clone_by_another(&self) -> Result<Option<Pid>, Failed> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(Failed::at(Step::Clone))?;
        // SAFETY: request processes have one thread.
        match unsafe { fork() }.map_err(Failed::at(Step::Clone))? {
            ForkResult::Child => {
                drop(reader);
                match self.enter_with_user().and_then(|()| self.fork(None, SIBLING)) {
                    Ok(None) => return Ok(None),
                    Ok(Some(pid)) => send(&writer, pid.as_raw()),
                    Err(errno) => send(&writer, -(errno as i32)),
                }
                exit(0)
            }
            ForkResult::Parent { child } => {
                drop(writer);
                let mut answer = [0; 4];
                let read = File::from(reader).read_exact(&mut answer);
                let _ = waitpid(child, None);
                read.map_err(Failed::at(Step::Clone))?;
                match i32::from_ne_bytes(answer) {
                    pid if pid > 0 => Ok(Some(Pid::from_raw(pid))),
                    errno => Err(Failed::new(Step::Clone, Errno::from_raw(-errno))),
                }
            }
        }
    }

    /// Joins the namespaces that belong to the host, then the user namespace, then those that belong to it: these can only be
    /// joined from within it.
    fn enter_with_user(&self) -> nix::Result<()> {
        let mut inside = Vec::new();
        for namespace in &self.joined {
            match setns(&namespace.file, namespace.flag) {
                Err(Errno::EPERM) => inside.push(namespace),
                other => other?,
            }
        }
        if let Some(user) = &self.user {
            setns(&user.file, user.flag)?;
        }
        self.enter(inside)?;
        users::become_root()
    }
}

/// Flag that makes the new process a child of this process's parent (`CLONE_PARENT`).
const SIBLING: u64 = libc::CLONE_PARENT as u64;

fn send(writer: &OwnedFd, number: i32) {
    let _ = write(writer, &number.to_ne_bytes());
}

/// Namespaces and root of this process, opened so that it can return to them.
struct Back {
    namespaces: Vec<(CloneFlags, File)>,
    root: Option<File>,
}

impl Back {
    fn open(from: &Namespaces) -> std::io::Result<Back> {
        let own = |(flag, name): (CloneFlags, &str)| {
            File::open(format!("/proc/self/ns/{name}")).map(|file| (flag, file))
        };
        let joined = from.joined.iter().map(|joined| (joined.flag, joined.name));
        let clocks = from.clocks.is_some().then_some((NEWTIME, "time"));
        let mounts = from.joined.iter().any(|joined| joined.flag == CloneFlags::CLONE_NEWNS);
        let namespaces = joined.chain(clocks).map(own).collect::<std::io::Result<_>>()?;
        Ok(Back { namespaces, root: mounts.then(|| File::open("/")).transpose()? })
    }

    fn go(self) -> nix::Result<()> {
        for (flag, file) in self.namespaces {
            setns(file, flag)?;
        }
        // setns(2) has changed the root to that of the namespace, which may not be the root that this process had.
        if let Some(root) = self.root {
            fchdir(root)?;
            chroot(".")?;
            chdir("/")?;
        }
        Ok(())
    }
}

/// Flag of unshare(2) and setns(2) for that kind of namespace.
pub fn flag(of: LinuxNamespaceType) -> CloneFlags {
    kind(of).0
}

fn kind(kind: LinuxNamespaceType) -> (CloneFlags, &'static str) {
    match kind {
        LinuxNamespaceType::Mount => (CloneFlags::CLONE_NEWNS, "mnt"),
        LinuxNamespaceType::Cgroup => (CloneFlags::CLONE_NEWCGROUP, "cgroup"),
        LinuxNamespaceType::Uts => (CloneFlags::CLONE_NEWUTS, "uts"),
        LinuxNamespaceType::Ipc => (CloneFlags::CLONE_NEWIPC, "ipc"),
        LinuxNamespaceType::User => (CloneFlags::CLONE_NEWUSER, "user"),
        LinuxNamespaceType::Pid => (CloneFlags::CLONE_NEWPID, "pid"),
        LinuxNamespaceType::Network => (CloneFlags::CLONE_NEWNET, "net"),
        LinuxNamespaceType::Time => (NEWTIME, "time"),
    }
}

fn clocks<'a>(offsets: impl Iterator<Item = (&'a String, &'a LinuxTimeOffset)>) -> String {
    let line = |(clock, offset): (&String, &LinuxTimeOffset)| {
        let (seconds, rest) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        format!("{clock} {seconds} {rest}\n")
    };
    offsets.map(line).collect()
}
