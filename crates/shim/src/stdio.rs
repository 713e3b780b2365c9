//! Stdio of a process, from before it is made until it has ended: fifos, or a terminal.
//!
//! `streams` opens what containerd passed for stdin, stdout and stderr; `terminal` copies between those and a terminal;
//! `relay` copies the output of an exec process; `logger` runs a program of the node that reads the output.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::unistd::{Uid, fchown};
use oci_spec::runtime::User;
use sandbox::ProcessFds;
use sandbox::console::{self, Size};

use crate::errors::Error;

pub mod errors;
pub mod logger;
mod relay;
mod streams;
mod terminal;

use logger::LogContext;
pub use streams::{Owner, Paths};
use streams::{ShimFifos, Streams};
use terminal::{Fifos, Terminal};

/// The shim's ends of a process's stdio, while the process lives.
#[derive(Debug)]
pub enum ShimEnds {
    /// Ends of its fifos.
    Fifos(ShimFifos),
    /// Terminal that the shim copies.
    Terminal(Terminal),
}

impl Default for ShimEnds {
    fn default() -> ShimEnds {
        ShimEnds::Fifos(ShimFifos::default())
    }
}

impl ShimEnds {
    /// Closes stdin, because the client has closed its end (CloseIO).
    pub fn close_stdin(&mut self) {
        match self {
            ShimEnds::Fifos(fifos) => fifos.close_stdin(),
            ShimEnds::Terminal(terminal) => terminal.close_stdin(),
        }
    }

    /// Bytes that the process wrote and containerd has not read yet.
    pub fn unread(&self) -> usize {
        match self {
            ShimEnds::Fifos(fifos) => fifos.unread(),
            ShimEnds::Terminal(terminal) => terminal.unread(),
        }
    }

    /// Whether the shim has passed on all output.
    pub fn is_done(&self) -> bool {
        match self {
            ShimEnds::Fifos(fifos) => fifos.is_done(),
            ShimEnds::Terminal(terminal) => terminal.is_done(),
        }
    }

    /// Resizes the terminal. Does nothing if there is none, as runc's shim.
    pub fn resize(&self, size: Size) -> Result<(), Error> {
        match self {
            ShimEnds::Fifos(_) => Ok(()),
            ShimEnds::Terminal(terminal) => terminal.resize(size),
        }
    }
}

/// Opens the stdio of a program of the image (`is_program`), whose container has a devpts, or of a guest, whose container has
/// none. `user` becomes its owner. A program with a terminal has no fifos, but a socket on which the terminal comes back.
/// Blocks until a logger is ready.
pub fn open(
    paths: &Paths,
    context: LogContext<'_>,
    owner: Owner,
    is_program: bool,
    user: &User,
) -> Result<(ProcessFds, PreparedEnds), Error> {
    if !paths.terminal {
        let Streams { process: stdio, shim } =
            streams::open(paths, context, owner, user.uid(), user.gid())?;
        return Ok((ProcessFds { stdio, ..ProcessFds::default() }, PreparedEnds::Fifos(shim)));
    }
    let fifos = Fifos::open(paths, context)?;
    if is_program {
        let (ours, theirs) = console::pair()?;
        let fds = ProcessFds { console: Some(theirs.into()), ..ProcessFds::default() };
        return Ok((fds, PreparedEnds::Console(ours, fifos)));
    }
    let (master, side) = console::open()?;
    let _ = fchown(&side, Some(Uid::from_raw(user.uid())), None);
    let failed = || Error::io("duplicate the terminal");
    let copy = |_| side.try_clone().map(Some).map_err(failed());
    let stdio = [copy(0)?, copy(1)?, copy(2)?];
    let fds = ProcessFds { stdio, ..ProcessFds::default() };
    Ok((fds, PreparedEnds::Terminal(master, fifos)))
}

/// The shim's ends of the stdio of a process that is being made.
pub enum PreparedEnds {
    /// Ends of its fifos.
    Fifos(ShimFifos),
    /// Terminal that the shim has made.
    Terminal(OwnedFd, Fifos),
    /// Socket on which a terminal of the container's own comes.
    Console(UnixStream, Fifos),
}

impl PreparedEnds {
    /// Connects the ends, when the process was made.
    pub fn connect(self) -> Result<ShimEnds, Error> {
        let (master, fifos) = match self {
            PreparedEnds::Fifos(fifos) => return Ok(ShimEnds::Fifos(fifos)),
            PreparedEnds::Terminal(master, fifos) => (master, fifos),
            PreparedEnds::Console(console, fifos) => (console::receive(console)?, fifos),
        };
        Ok(ShimEnds::Terminal(Terminal::start(master, fifos)?))
    }
}
