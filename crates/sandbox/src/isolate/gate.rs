//! The gate at which an isolated process waits for Start: a fifo in the container's directory. The process opens the
//! fifo before it changes its root.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{mkfifo, read};

use super::errors::{Failed, Step};
use crate::Error;

/// The fifo's name in the container's directory.
const NAME: &str = "start";

/// End of the isolated process.
pub struct Gate(OwnedFd);

impl Gate {
    /// Makes the fifo. It is opened for both directions, so that opening does not wait for another process, and reading does not
    /// end when the other process closes it.
    pub fn make(directory: &Path) -> Result<Gate, Error> {
        let path = directory.join(NAME);
        let failed = || format!("make {}", path.display());
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(Error::system(failed()))?;
        let opened = File::options().read(true).write(true).open(&path);
        Ok(Gate(opened.map_err(Error::io(failed()))?.into()))
    }

    /// Waits until the container is started.
    pub fn wait(self) -> nix::Result<()> {
        loop {
            match read(&self.0, &mut [0]) {
                Err(nix::Error::EINTR) => {}
                other => return other.map(drop),
            }
        }
    }

    /// Descriptor that must stay open until then.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Releases the process that waits at the gate.
pub fn open(directory: &Path) -> Result<(), Failed> {
    let mut options = File::options();
    // Opening must not wait for a reader.
    let fifo = options.write(true).custom_flags(OFlag::O_NONBLOCK.bits());
    match fifo.open(directory.join(NAME)).and_then(|mut fifo| fifo.write_all(&[1])) {
        Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
            Err(Failed::new(Step::Start, "its process has ended"))
        }
        other => other.map_err(Failed::at(Step::Start)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_waits_is_released_and_one_that_has_ended_is_not() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let gate = Gate::make(directory.path()).expect("made");
        open(directory.path()).expect("released");
        gate.wait().expect("goes on");
        let ended = open(directory.path()).expect_err("nobody waits").to_string();
        assert_eq!(ended, "cannot start the container: its process has ended");
    }
}
