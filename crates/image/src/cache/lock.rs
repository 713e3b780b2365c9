//! Locks of processes that compile. They allow one process of the node for each key, and a limited number of processes in
//! all.
//!
//! Each lock is a byte of one file, so that keys leave no lock files behind. The locks are open file description locks
//! (fcntl(2)), so that the kernel releases them when a process closes the file or is killed.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_WRLCK, O_NOFOLLOW, SEEK_SET, c_short, flock};
use tokio::time::{Instant, sleep};

use super::Key;

/// Name of the lock file.
const NAME: &str = "lock";

/// Number of a key's first digits that choose its byte. An offset has 63 bits, so 15 digits of 4 bits fit.
const OFFSET_DIGITS: usize = 15;

/// Offset of the first compile slot. It is the first byte that no key has, and the other slots follow.
const FIRST_SLOT: i64 = 1 << (4 * OFFSET_DIGITS);

/// Time between two attempts to take a lock.
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Opens the lock file in a directory. Creates it if it does not exist.
///
/// # Errors
/// Those of opening or creating the file.
pub fn open(directory: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600).custom_flags(O_NOFOLLOW);
    options.open(directory.join(NAME))
}

/// Waits for the lock of the key, and takes it. The lock is released when the returned file is dropped.
///
/// # Errors
/// Those of locking the file; [`io::ErrorKind::TimedOut`] if the lock is not free in time.
pub async fn of_key(file: File, key: &Key, within: Duration) -> io::Result<File> {
    let byte = i64::from_str_radix(&key.name[..OFFSET_DIGITS], 16).map_err(io::Error::other)?;
    lock_any(file, byte..byte + 1, within).await
}

/// Waits for one of `slots` compile slots, and takes it. The slot is released when the returned file is dropped.
///
/// # Errors
/// Those of [`of_key`].
pub async fn slot(file: File, slots: u32, within: Duration) -> io::Result<File> {
    lock_any(file, FIRST_SLOT..FIRST_SLOT + i64::from(slots), within).await
}

/// Waits for the lock of any of these bytes, and takes it.
async fn lock_any(file: File, bytes: Range<i64>, within: Duration) -> io::Result<File> {
    let until = Instant::now() + within;
    loop {
        for byte in bytes.clone() {
            if lock(&file, byte)? {
                return Ok(file);
            }
        }
        if Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Tries to lock the byte. Returns `false` if the lock is taken, or if a signal interrupted the call.
fn lock(file: &File, byte: i64) -> io::Result<bool> {
    let range = flock {
        l_type: F_WRLCK as c_short,
        l_whence: SEEK_SET as c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    match fcntl(file, FcntlArg::F_OFD_SETLK(&range)) {
        Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) => Ok(false),
        locked => locked.map(|_| true).map_err(io::Error::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(30);

    #[tokio::test]
    async fn slots_are_limited_and_a_released_slot_can_be_taken_again() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let take = || async { slot(open(directory.path())?, 2, SHORT).await };
        let (first, _second) = (take().await.expect("a slot"), take().await.expect("a slot"));
        let third = take().await.expect_err("both are taken");
        assert_eq!(third.kind(), io::ErrorKind::TimedOut);
        drop(first);
        take().await.expect("a slot");
    }

    #[tokio::test]
    async fn waiting_for_a_key_ends_at_the_limit_and_slots_do_not_lock_keys() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let key =
            |digit: &str| Key { name: digit.repeat(super::super::KEY_DIGITS), engine: "".into() };
        let file = || open(directory.path()).expect("opens");
        let _slot = slot(file(), 1, SHORT).await.expect("a slot");
        let _first = of_key(file(), &key("f"), SHORT).await.expect("is free");
        of_key(file(), &key("0"), SHORT).await.expect("is free");
        let before = Instant::now();
        let second = of_key(file(), &key("f"), SHORT).await.expect_err("is locked");
        assert_eq!(second.kind(), io::ErrorKind::TimedOut);
        assert!(before.elapsed() >= SHORT);
    }
}
