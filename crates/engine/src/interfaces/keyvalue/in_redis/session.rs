//! The connection from one call to the next: when it is kept, made anew, or not tried.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connecting::{Connector, Preparing};
use super::failure::Failure;
use super::wire::{Unread, Wire};
use crate::interfaces::keyvalue::error::Error;

/// How long a connection is kept without a call. What is between may forget a connection that is not used (NAT, firewalls), and
/// drops what is sent over it without a word.
pub(super) const KEPT: Duration = Duration::from_secs(30);

/// How long calls fail after a failure without another attempt.
const PAUSE: Duration = Duration::from_millis(250);

/// The connection, from one call to the next.
pub struct Session {
    /// The deadline of the call whose turn it is.
    deadline: Instant,
    /// The connection, and when it was last used.
    pub(super) connection: Option<(Wire, Instant)>,
    preparing: Option<Preparing>,
    /// The last failure to connect or to get an answer, and when it was.
    failed: Option<(Instant, Failure)>,
}

impl Default for Session {
    fn default() -> Session {
        Session { deadline: Instant::now(), connection: None, preparing: None, failed: None }
    }
}

/// Whether a command may be sent again if its answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// It reads only.
    Reads,
    /// It changes something.
    Changes,
}

/// Why a command has no result.
pub enum Stopped {
    /// There is no reply of the expected kind.
    Unread(Unread),
    /// The result is not one that the guest may have.
    Refused(Error),
}

impl From<Unread> for Stopped {
    fn from(unread: Unread) -> Stopped {
        match unread {
            Unread::Long(length) => Stopped::Refused(Error::LongValue(length)),
            unread => Stopped::Unread(unread),
        }
    }
}

/// Result of what is done over a connection.
pub type Asked<T> = Result<T, Stopped>;

impl Session {
    /// Begins a call with this deadline.
    pub fn begin(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// Does something over the connection.
    pub fn ask<T>(
        &mut self,
        connector: &Arc<Connector>,
        command: Command,
        mut work: impl FnMut(&mut Wire) -> Asked<T>,
    ) -> Asked<T> {
        let mut may_repeat = command == Command::Reads;
        loop {
            let mut wire = self.connection(connector).map_err(Unread::Failure)?;
            wire.set_deadline(self.deadline);
            let done = work(&mut wire);
            if wire.is_in_step() {
                self.connection = Some((wire, Instant::now()));
            }
            let failure = match done {
                Err(Stopped::Unread(unread)) => Failure::from(unread),
                done => return done,
            };
            if failure == Failure::Lost && may_repeat {
                may_repeat = false;
                continue;
            }
            if failure == Failure::Timeout {
                self.note(&failure);
            }
            if failure.may_be_of_this_connection() {
                self.connection = None;
            }
            let failure = match command {
                Command::Changes if !failure.is_answer() => Failure::Unknown(Box::new(failure)),
                _ => failure,
            };
            return Err(Unread::Failure(failure).into());
        }
    }

    /// The connection, which is made if there is none that can be used.
    fn connection(&mut self, connector: &Arc<Connector>) -> Result<Wire, Failure> {
        if Instant::now() >= self.deadline {
            return Err(Failure::Timeout);
        }
        if let Some((mut wire, used)) = self.connection.take()
            && used.elapsed() < KEPT
            && wire.is_ready()
        {
            return Ok(wire);
        }
        if let Some((since, failure)) = &self.failed
            && since.elapsed() < PAUSE
        {
            return Err(failure.clone());
        }
        let connected = connector.connect(&mut self.preparing, self.deadline);
        connected.inspect_err(|failure| self.note(failure))
    }

    fn note(&mut self, failure: &Failure) {
        self.failed = Some((Instant::now(), failure.clone()));
    }

    /// Drops what an idle server does not need. A preparation that hangs stays, so that there is never a second one.
    pub fn release(&mut self) {
        self.connection = None;
        self.failed = None;
        self.preparing.take_if(|preparing| !preparing.hangs());
    }
}
