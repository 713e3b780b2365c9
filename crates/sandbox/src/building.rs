//! Who builds a container: until they are done, what they make cannot all be found and taken away.
//!
//! They hold a lock on a file in the container's folder: the process that was asked, and those that libcontainer forks
//! from it, which enter the cgroup by themselves. The container's first process gives it up when it is ready and in
//! the cgroup, where it is found ([`over`]). Of those who are killed the kernel takes it back.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::Error;

/// The file in the container's folder.
const NAME: &str = "building";

/// How long, and how often, the end is waited for: it takes milliseconds, unless a mount hangs.
const TRIES: u32 = 1000;
const PAUSE: Duration = Duration::from_millis(10);

/// The descriptor that forked processes have of the lock.
static INHERITED: AtomicI32 = AtomicI32::new(-1);

/// Takes the lock, for this process and those that it forks from here on: it is given back when all have closed it.
pub fn begin(folder: &Path) -> Result<File, Error> {
    let path = folder.join(NAME);
    let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
    let file = locked.map_err(Error::io(format!("lock {}", path.display())))?;
    INHERITED.store(file.as_raw_fd(), Ordering::Relaxed);
    Ok(file)
}

/// In the container's first process: gives up its share.
pub fn over() {
    let inherited = INHERITED.swap(-1, Ordering::Relaxed);
    if inherited >= 0 {
        // SAFETY: the value it belongs to is one of the process that this one is a copy of, and is not dropped here.
        unsafe { libc::close(inherited) };
    }
}

/// Returns once nobody builds in that folder, or cannot be waited for any longer: what is there by then is taken away.
pub fn wait_for_end(folder: &Path) -> Result<(), Error> {
    let path = folder.join(NAME);
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(Error::io(format!("open {}", path.display())))?,
    };
    for _ in 0..TRIES {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => sleep(PAUSE),
            _ => break,
        }
    }
    Ok(())
}
