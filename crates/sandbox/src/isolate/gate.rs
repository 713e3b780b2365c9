//! Where an isolated process waits for Start: a fifo in the container's directory, which it opens before it loses sight of it.

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

/// The end of the isolated process.
pub struct Gate(OwnedFd);

impl Gate {
    /// Makes it. It is open in both directions: nobody has to be at the other end, and it does not end when they go.
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

    /// What is not to be closed before.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Releases the process that waits there.
pub fn open(directory: &Path) -> Result<(), Failed> {
    let mut options = File::options();
    // Without waiting for somebody who reads.
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
    fn whoever_waits_is_released_and_who_has_ended_is_not() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let gate = Gate::make(directory.path()).expect("made");
        open(directory.path()).expect("released");
        gate.wait().expect("goes on");
        let ended = open(directory.path()).expect_err("nobody waits").to_string();
        assert_eq!(ended, "cannot start the container: its process has ended");
    }
}
