//! Who compiles: one process of the node for each key.
//!
//! The locks are bytes of one file, so that none is left behind for each key, and open file description locks
//! (fcntl(2)), so that the kernel takes them back when their holder is closed or killed.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc::{F_WRLCK, O_NOFOLLOW, SEEK_SET, c_short, flock};

use super::Key;

/// The file that is locked.
const NAME: &str = "lock";

/// Digits of a key that choose its byte: offsets are 63 bits.
const DIGITS: usize = 15;

/// How long one who compiles is waited for, and how often it is looked: twice as long as a compilation may take unless
/// told otherwise. Whoever holds the lock may be stopped.
const TRIES: u32 = 60_000;
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until nobody else holds the lock of the key. Blocks; it is given back when what is returned is dropped.
///
/// # Errors
/// Of opening and locking the file; [`io::ErrorKind::TimedOut`] after ten minutes.
pub fn exclusive(directory: &Path, key: &Key) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true).mode(0o600).custom_flags(O_NOFOLLOW);
    let file = options.open(directory.join(NAME))?;
    let byte = i64::from_str_radix(&key.name[..DIGITS], 16).map_err(io::Error::other)?;
    let range = flock {
        l_type: F_WRLCK as c_short,
        l_whence: SEEK_SET as c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    };
    for _ in 0..TRIES {
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&range)) {
            Err(Errno::EAGAIN | Errno::EACCES | Errno::EINTR) => sleep(PAUSE),
            locked => return locked.map(|_| file).map_err(io::Error::from),
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}
