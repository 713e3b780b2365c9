//! Locks of processes that compile: one process of the node for each key, and a bounded number of processes in all.
//!
//! Each lock is a byte of one file, so that no lock file is left behind for each key. They are open file description
//! locks (fcntl(2)), so that the kernel releases them when their holder closes the file or is killed.

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

/// The file that is locked.
const NAME: &str = "lock";

/// Digits of a key that choose its byte: offsets are 63 bits.
const DIGITS: usize = 15;

/// The first byte that no key has: a turn on the node is one of those from here on.
const TURNS: i64 = 1 << (4 * DIGITS);

/// How often a lock is tried.
const PAUSE: Duration = Duration::from_millis(10);

/// The file of a directory.
///
/// # Errors
/// Of opening or making it.
pub fn open(directory: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600).custom_flags(O_NOFOLLOW);
    options.open(directory.join(NAME))
}

/// Waits until nobody else holds the lock of the key. It is given back when what is returned is dropped.
///
/// # Errors
/// Of locking the file; [`io::ErrorKind::TimedOut`] after that time.
pub async fn of_key(file: File, key: &Key, within: Duration) -> io::Result<File> {
    let byte = i64::from_str_radix(&key.name[..DIGITS], 16).map_err(io::Error::other)?;
    any_of(file, byte..byte + 1, within).await
}

/// Waits until less than `turns` are taken, and takes one. It is given back when what is returned is dropped.
///
/// # Errors
/// As [`of_key`].
pub async fn turn(file: File, turns: u32, within: Duration) -> io::Result<File> {
    any_of(file, TURNS..TURNS + i64::from(turns), within).await
}

async fn any_of(file: File, bytes: Range<i64>, within: Duration) -> io::Result<File> {
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
        sleep(PAUSE).await;
    }
}

/// Whether the byte is locked from now on; if not, somebody else has it.
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
    async fn there_are_so_many_turns_and_one_that_is_given_back_is_the_next_one_s() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let take = || async { turn(open(folder.path())?, 2, SHORT).await };
        let (first, _second) = (take().await.expect("a turn"), take().await.expect("a turn"));
        let third = take().await.expect_err("both are taken");
        assert_eq!(third.kind(), io::ErrorKind::TimedOut);
        drop(first);
        take().await.expect("a turn");
    }

    #[tokio::test]
    async fn a_key_is_waited_for_as_long_as_is_said_and_no_turn_is_in_its_way() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let key =
            |digit: &str| Key { name: digit.repeat(super::super::KEY_DIGITS), engine: "".into() };
        let file = || open(folder.path()).expect("opens");
        let _turn = turn(file(), 1, SHORT).await.expect("a turn");
        let _first = of_key(file(), &key("f"), SHORT).await.expect("is free");
        of_key(file(), &key("0"), SHORT).await.expect("is free");
        let before = Instant::now();
        let second = of_key(file(), &key("f"), SHORT).await.expect_err("is held");
        assert_eq!(second.kind(), io::ErrorKind::TimedOut);
        assert!(before.elapsed() >= SHORT);
    }
}
