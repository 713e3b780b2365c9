//! The build lock: a lock on a file in the container's directory, held by the processes that build the container.
//!
//! Until they have finished, some of what they make cannot be found and removed. The request process holds the lock,
//! and so does the process that it forks or the OCI runtime that it executes. The container's first process releases
//! the lock when it is ready and in the cgroup, where it can be found ([`release`]). If a process is killed, the kernel
//! releases the lock for it.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::unistd::Pid;

use crate::Error;
use crate::pidfd::PidFd;
use crate::wait::{self, Tries};

/// Name of the file in the container's directory.
const NAME: &str = "building";

/// How long, and how often, to wait for the end of such processes. It takes milliseconds, unless a mount hangs.
const TRIES: Tries = Tries { count: 1000, pause: Duration::from_millis(10) };

/// Descriptor of the lock in forked processes.
static INHERITED: AtomicI32 = AtomicI32::new(-1);

/// Takes the lock for this process and those that it forks from here on. It is released when all have closed it.
pub fn take(directory: &Path) -> Result<File, Error> {
    let path = directory.join(NAME);
    let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
    let file = locked.map_err(Error::io(format!("lock {}", path.display())))?;
    INHERITED.store(file.as_raw_fd(), Ordering::Relaxed);
    Ok(file)
}

/// Releases the share of the container's first process, which calls this.
pub fn release() {
    let inherited = INHERITED.swap(-1, Ordering::Relaxed);
    if inherited >= 0 {
        // SAFETY: the descriptor's owner is a value of the process that this one is a copy of, and is never dropped here.
        unsafe { libc::close(inherited) };
    }
}

/// Kills the processes that still build in that directory. Their request process was killed, so that what they make is not
/// needed. Returns when they have ended or the time is up.
pub fn kill_builders(directory: &Path) -> Result<(), Error> {
    let path = directory.join(NAME);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(Error::io(format!("open {}", path.display())))?,
    };
    let mut killed = Vec::new();
    let _ = wait::until(TRIES, || {
        // A shared lock, so that two processes that clean up do not kill each other as builders.
        if let Err(TryLockError::WouldBlock) = file.try_lock_shared() {
            killed.extend(kill_holders(&file));
            return None;
        }
        // The kernel releases the lock before the process leaves its cgroup.
        killed.iter().all(PidFd::has_ended).then_some(())
    });
    Ok(())
}

/// Kills the processes that have the file at that path open, such as the first process of an OCI runtime's container before it
/// is started. Returns when they have ended or the time is up. If there is no such file, there is no such process.
pub fn kill_holders_of(path: &Path) {
    // Device and inode identify the file, because its path differs in another mount namespace. Only files of that name are
    // examined, because a file of another file system may hang.
    let Ok(Identity { name, file }) = Identity::of(path) else { return };
    let is_it = |process: &str, fd: &str| {
        let link = PathBuf::from(format!("/proc/{process}/fd/{fd}"));
        let is_named_so = fs::read_link(&link).is_ok_and(|it| it.file_name() == Some(&name));
        is_named_so && link.metadata().is_ok_and(|it| (it.dev(), it.ino()) == file)
    };
    let _ = wait::until(TRIES, || kill_where(is_it).iter().all(PidFd::has_ended).then_some(()));
}

/// A file by name, and by device and inode.
struct Identity {
    name: OsString,
    file: (u64, u64),
}

impl Identity {
    fn of(path: &Path) -> io::Result<Identity> {
        let metadata = path.metadata()?;
        let name = path.file_name().unwrap_or_default().to_owned();
        Ok(Identity { name, file: (metadata.dev(), metadata.ino()) })
    }
}

/// Kills the other processes that have the file open. The caller repeats this, because one of them may just have forked.
fn kill_holders(file: &File) -> Vec<PidFd> {
    let open = |process: &str, fd: &str| fs::read_link(format!("/proc/{process}/fd/{fd}")).ok();
    let Some(name) = open("self", &file.as_raw_fd().to_string()) else { return Vec::new() };
    kill_where(|process, fd| open(process, fd).as_ref() == Some(&name))
}

/// Kills the other processes that have such a descriptor. `is_it` gets the numbers of process and descriptor.
fn kill_where(is_it: impl Fn(&str, &str) -> bool) -> Vec<PidFd> {
    let others = numbers(Path::new("/proc")).filter(|it| *it != std::process::id().to_string());
    let mut killed = Vec::new();
    for process in others {
        // Opened first, because the pid may be reused at any moment.
        let opened = process.parse().ok().and_then(|pid| PidFd::open(Pid::from_raw(pid)).ok());
        let mut fds = numbers(&Path::new("/proc").join(&process).join("fd"));
        if fds.any(|fd| is_it(&process, &fd)) {
            let sent = |process: &PidFd| process.signal(libc::SIGKILL).is_ok();
            killed.extend(opened.filter(sent));
        }
    }
    killed
}

/// Names of the entries of a directory that consist of digits.
fn numbers(directory: &Path) -> impl Iterator<Item = String> + use<> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_has_a_fifo_open_is_killed_and_one_with_another_of_its_name_is_not() {
        let directories = [(); 2].map(|()| tempfile::tempdir().expect("temporary directory"));
        let [own, other] = directories.each_ref().map(|directory| {
            let path = directory.path().join("exec.fifo");
            File::create(&path).expect("a file");
            path
        });
        let sleep = |path: &Path| {
            let stdin = Stdio::from(File::open(path).expect("opened"));
            Command::new("sleep").arg("1000").stdin(stdin).spawn().expect("is executed")
        };
        let (mut held, mut others) = (sleep(&own), sleep(&other));
        kill_holders_of(&own);
        assert!(held.wait().expect("ended").code().is_none());
        assert!(others.try_wait().expect("asked").is_none(), "another's process was killed");
        others.kill().and_then(|()| others.wait()).expect("ended");
    }

    #[test]
    fn a_process_that_still_builds_is_killed_and_no_other() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let file = take(directory.path()).expect("locked");
        let sleep = |stdin: Stdio| Command::new("sleep").arg("1000").stdin(stdin).spawn();
        // A process that inherits the descriptor holds the lock.
        let mut builder = sleep(OwnedFd::from(file).into()).expect("is executed");
        let mut other = sleep(Stdio::null()).expect("is executed");
        kill_builders(directory.path()).expect("is over");
        assert!(builder.wait().expect("ended").code().is_none());
        assert!(other.try_wait().expect("asked").is_none(), "another's process was killed");
        other.kill().and_then(|()| other.wait()).expect("ended");
    }
}
