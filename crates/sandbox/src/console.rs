//! Terminals (pty(7)): the process has one side, the shim the other.
//!
//! A Linux program gets a terminal of its container's own devpts, so that it is in `/dev/pts`; the shim receives its side on a
//! socket. A guest's container has no devpts, so the shim makes the terminal and passes one side as stdio.

use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{OpenptyResult, openpty};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::ready::is_readable_by;
use crate::{Error, limits, syscalls, wire};

/// Name of the socket, in a container's directory, on which the OCI runtime sends the terminal.
const SOCKET: &str = "console.sock";

/// Terminal window size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// In characters.
    pub width: u16,
    /// In lines.
    pub height: u16,
}

/// Socket pair for a terminal of the container's own: the shim receives the terminal on one end, and sends the other end with
/// the request.
pub fn pair() -> Result<(UnixStream, UnixStream), Error> {
    UnixStream::pair().map_err(Error::io("make a socket pair for a terminal"))
}

/// Receives the shim's side, which was sent before the answer to the request.
pub fn receive(console: UnixStream) -> Result<OwnedFd, Error> {
    let received = wire::receive_fds(&OwnedFd::from(console))?;
    received.and_then(|mut fds| fds.pop()).ok_or(Error::Gone { process: "request" })
}

/// Makes a terminal of the node. Returns the shim's side and the process's.
pub fn open() -> Result<(OwnedFd, OwnedFd), Error> {
    let OpenptyResult { master, slave } =
        openpty(None, None).map_err(Error::system("make a terminal"))?;
    for side in [&master, &slave] {
        fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
            .map_err(Error::system("make a terminal"))?;
    }
    Ok((master, slave))
}

/// Resizes a terminal.
pub fn resize(master: &OwnedFd, size: Size) -> Result<(), Error> {
    let size = Winsize { ws_row: size.height, ws_col: size.width, ws_xpixel: 0, ws_ypixel: 0 };
    syscalls::result(tcsetwinsize(master, size)).map_err(Error::system("resize the terminal"))
}

/// Makes stdin the controlling terminal of the session, if it is a terminal, so that ctrl-C works.
pub(crate) fn take() {
    if std::io::stdin().is_terminal() {
        // If this fails, only ctrl-C does not work.
        let _ = rustix::process::ioctl_tiocsctty(std::io::stdin());
    }
}

/// Socket to which the OCI runtime connects to send a terminal.
pub(crate) struct Console {
    /// Path of the socket.
    pub path: PathBuf,
    listener: UnixListener,
    shim: OwnedFd,
}

impl Console {
    /// Listens in `directory`; the terminal is sent on to `shim`. It changes the working directory, because a socket's path has at
    /// most 108 bytes (unix(7)), and a bundle's may have more.
    pub fn listen(directory: &Path, shim: OwnedFd) -> Result<Console, Error> {
        let failed = || Error::io("listen for the terminal");
        std::env::set_current_dir(directory).map_err(failed())?;
        let listener = UnixListener::bind(SOCKET).map_err(failed())?;
        Ok(Console { path: directory.join(SOCKET), listener, shim })
    }

    /// Path by which another process connects: it leads through this process's working directory, and so is short enough.
    pub fn address(&self) -> PathBuf {
        format!("/proc/{}/cwd/{SOCKET}", std::process::id()).into()
    }

    /// Forwards the terminal that the OCI runtime sent while the container was made.
    pub fn forward(self) -> Result<(), Error> {
        let until = Instant::now() + limits::CONSOLE_TIME;
        let missing = || Error::Container("the OCI runtime has sent no terminal".into());
        let is_there =
            |fd: BorrowedFd<'_>| is_readable_by(fd, until).then_some(()).ok_or_else(missing);
        is_there(self.listener.as_fd())?;
        let (sender, _) = self.listener.accept().map_err(Error::io("receive the terminal"))?;
        is_there(sender.as_fd())?;
        let master = receive(sender).map_err(|_| missing())?;
        let _ = std::fs::remove_file(&self.path);
        wire::send_fds(&self.shim, &[master.as_raw_fd()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console() -> (tempfile::TempDir, Console) {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join(SOCKET);
        let listener = UnixListener::bind(&path).expect("listens");
        let (shim, _) = pair().expect("a pair");
        (directory, Console { path, listener, shim: shim.into() })
    }

    #[test]
    fn a_terminal_that_does_not_come_is_not_waited_for() {
        let refused = console().1.forward().expect_err("nobody connects").to_string();
        assert_eq!(refused, "the OCI runtime has sent no terminal");
        let (_directory, console) = console();
        let silent = UnixStream::connect(&console.path).expect("connects");
        let refused = console.forward().expect_err("nothing is sent").to_string();
        assert_eq!(refused, "the OCI runtime has sent no terminal");
        drop(silent);
    }
}
