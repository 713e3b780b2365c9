//! The stdio of a process from before it is made until it has ended: fifos, or a terminal.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::unistd::{Uid, fchown};
use oci_spec::runtime::User;
use sandbox::console::{self, Size};

use crate::errors::Error;
use crate::logger::Whose;
use crate::stdio::{self, Kept, Owner, Paths, Streams};
use crate::terminal::{Fifos, Terminal};

/// What the shim holds of a process's stdio while it lives.
#[derive(Debug)]
pub enum Held {
    /// The ends of its fifos.
    Fifos(Kept),
    /// Its terminal.
    Terminal(Terminal),
}

impl Default for Held {
    fn default() -> Held {
        Held::Fifos(Kept::default())
    }
}

impl Held {
    /// The client has closed its end (CloseIO).
    pub fn close_stdin(&mut self) {
        match self {
            Held::Fifos(kept) => kept.close_stdin(),
            Held::Terminal(terminal) => terminal.close_stdin(),
        }
    }

    /// Bytes that the process wrote and containerd has not read yet.
    pub fn unread(&self) -> usize {
        match self {
            Held::Fifos(kept) => kept.unread(),
            Held::Terminal(terminal) => terminal.unread(),
        }
    }

    /// Whether the shim has passed on all output.
    pub fn is_done(&self) -> bool {
        match self {
            Held::Fifos(kept) => kept.is_done(),
            Held::Terminal(terminal) => terminal.is_done(),
        }
    }

    /// Resizes the terminal; where there is none, nothing is resized, as runc's shim has it.
    pub fn resize(&self, size: Size) -> Result<(), Error> {
        match self {
            Held::Fifos(_) => Ok(()),
            Held::Terminal(terminal) => terminal.resize(size),
        }
    }
}

/// Stdio for a process that is about to be made.
pub struct Connection {
    given: [Option<OwnedFd>; 3],
    /// In place of the three: the socket on which a terminal of the container's own comes back.
    pub console: Option<OwnedFd>,
    pending: Pending,
}

impl Connection {
    /// For a program of the image (`is_program`), which has a devpts, or for a guest, which has none; of that user
    /// and group. Blocks while a logger gets ready.
    pub fn open(
        paths: &Paths,
        whose: Whose<'_>,
        owner: Owner,
        is_program: bool,
        user: &User,
    ) -> Result<Connection, Error> {
        if !paths.terminal {
            let Streams { given, kept } = stdio::open(paths, whose, owner, user.uid(), user.gid())?;
            return Ok(Connection { given, console: None, pending: Pending::Fifos(kept) });
        }
        let fifos = Fifos::open(paths, whose)?;
        if is_program {
            let (ours, theirs) = console::pair()?;
            let console = Some(theirs.into());
            let given = [None, None, None];
            return Ok(Connection { given, console, pending: Pending::Console(ours, fifos) });
        }
        let (master, side) = console::open()?;
        let _ = fchown(&side, Some(Uid::from_raw(user.uid())), None);
        let failed = || Error::io("duplicate the terminal");
        let copy = |_| side.try_clone().map(Some).map_err(failed());
        let given = [copy(0)?, copy(1)?, copy(2)?];
        Ok(Connection { given, console: None, pending: Pending::Terminal(master, fifos) })
    }

    /// Which of the three streams there are.
    pub fn announced(&self) -> [bool; 3] {
        [0, 1, 2].map(|stream: usize| self.given[stream].is_some())
    }

    /// Splits it: what goes to the process, a guest's files in their place, and what stays.
    pub fn split(self, files: Vec<OwnedFd>) -> (Vec<OwnedFd>, Pending) {
        let given = self.given.into_iter().flatten().chain(files).chain(self.console);
        (given.collect(), self.pending)
    }
}

/// The shim's side of the stdio of a process that is being made.
pub enum Pending {
    /// The ends of its fifos.
    Fifos(Kept),
    /// Its terminal, made by the shim.
    Terminal(OwnedFd, Fifos),
    /// Where a terminal of the container's own comes from.
    Console(UnixStream, Fifos),
}

impl Pending {
    /// The process was made.
    pub fn hold(self) -> Result<Held, Error> {
        let (master, fifos) = match self {
            Pending::Fifos(kept) => return Ok(Held::Fifos(kept)),
            Pending::Terminal(master, fifos) => (master, fifos),
            Pending::Console(console, fifos) => (console::receive(console)?, fifos),
        };
        Ok(Held::Terminal(Terminal::start(master, fifos)?))
    }
}
