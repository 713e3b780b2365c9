//! The stdio of a process from before it is made until it has ended: fifos, or a terminal.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::unistd::{Uid, fchown};
use oci_spec::runtime::User;
use sandbox::console::{self, Size};
use sandbox::{Descriptors, ProcessFds};

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

/// What the shim holds of a process's stdio while it lives.
#[derive(Debug)]
pub enum ShimEnds {
    /// The ends of its fifos.
    Fifos(ShimFifos),
    /// Its terminal.
    Terminal(Terminal),
}

impl Default for ShimEnds {
    fn default() -> ShimEnds {
        ShimEnds::Fifos(ShimFifos::default())
    }
}

impl ShimEnds {
    /// The client has closed its end (CloseIO).
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

    /// Resizes the terminal; where there is none, nothing is resized, as runc's shim has it.
    pub fn resize(&self, size: Size) -> Result<(), Error> {
        match self {
            ShimEnds::Fifos(_) => Ok(()),
            ShimEnds::Terminal(terminal) => terminal.resize(size),
        }
    }
}

/// Stdio for a process that is about to be made.
pub struct Stdio {
    process: [Option<OwnedFd>; 3],
    /// In place of the three: the socket on which a terminal of the container's own comes back.
    console: Option<OwnedFd>,
    shim: PreparedEnds,
}

impl Stdio {
    /// For a program of the image (`is_program`), which has a devpts, or for a guest, which has none; of that user
    /// and group. Blocks while a logger gets ready.
    pub fn open(
        paths: &Paths,
        context: LogContext<'_>,
        owner: Owner,
        is_program: bool,
        user: &User,
    ) -> Result<Stdio, Error> {
        if !paths.terminal {
            let Streams { process, shim } =
                streams::open(paths, context, owner, user.uid(), user.gid())?;
            return Ok(Stdio { process, console: None, shim: PreparedEnds::Fifos(shim) });
        }
        let fifos = Fifos::open(paths, context)?;
        if is_program {
            let (ours, theirs) = console::pair()?;
            let console = Some(theirs.into());
            let process = [None, None, None];
            return Ok(Stdio { process, console, shim: PreparedEnds::Console(ours, fifos) });
        }
        let (master, side) = console::open()?;
        let _ = fchown(&side, Some(Uid::from_raw(user.uid())), None);
        let failed = || Error::io("duplicate the terminal");
        let copy = |_| side.try_clone().map(Some).map_err(failed());
        let process = [copy(0)?, copy(1)?, copy(2)?];
        Ok(Stdio { process, console: None, shim: PreparedEnds::Terminal(master, fifos) })
    }

    /// Splits it: what goes to the process, with a guest's descriptors, and what stays.
    pub fn split(self, guest: Descriptors) -> (ProcessFds, PreparedEnds) {
        let Stdio { process: stdio, console, shim } = self;
        (ProcessFds { stdio, console, guest }, shim)
    }
}

/// The shim's side of the stdio of a process that is being made.
pub enum PreparedEnds {
    /// The ends of its fifos.
    Fifos(ShimFifos),
    /// Its terminal, made by the shim.
    Terminal(OwnedFd, Fifos),
    /// Where a terminal of the container's own comes from.
    Console(UnixStream, Fifos),
}

impl PreparedEnds {
    /// The process was made.
    pub fn connect(self) -> Result<ShimEnds, Error> {
        let (master, fifos) = match self {
            PreparedEnds::Fifos(fifos) => return Ok(ShimEnds::Fifos(fifos)),
            PreparedEnds::Terminal(master, fifos) => (master, fifos),
            PreparedEnds::Console(console, fifos) => (console::receive(console)?, fifos),
        };
        Ok(ShimEnds::Terminal(Terminal::start(master, fifos)?))
    }
}
