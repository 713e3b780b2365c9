//! Lifecycle of a container, without I/O.
//!
//! ```text
//!           start                       exit
//! Created ────────▶ Starting ──▶ Running ──────▶ Stopped ──▶ (deleted: the service forgets it)
//!    │  ◀──failed──    │      resume ▲  │ pause     ▲  ▲
//!    │                 │             │  ▼      exit │  │
//!    │                 │         Pausing, Paused ───┘  │
//!    └─────────────────┴── exit (killed) ──────────────┘
//! ```
//! Each method returns whether containerd may do that in the present state. Refusals are those of runc's shim.

use std::time::SystemTime;

/// Exit code of a process that SIGKILL has ended.
pub const KILLED: u8 = 128 + 9;

/// End of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its own exit code, or 128 + N if signal N ended it.
    pub code: u8,
    /// When it was reaped.
    pub at: SystemTime,
}

/// State of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Isolated and waiting for Start.
    Created,
    /// Being released.
    Starting,
    /// Released.
    Running,
    /// Its processes are being frozen.
    Pausing,
    /// Its processes are frozen.
    Paused,
    /// Its first process has ended.
    Stopped(Exit),
}

/// Refusal of a call that is not possible in the present state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Start of a process that was started before.
    #[error("the container was started already")]
    Started,
    /// Start or Kill of a process that has ended.
    #[error("process already finished")]
    Finished,
    /// Kill of a process that was not started.
    #[error("the process was not started yet")]
    NotStarted,
    /// Exec in, or Pause of, a container that does not run.
    #[error("the container is not running")]
    NotRunning,
    /// Delete of a container that runs.
    #[error("the container is running; kill it before it is deleted")]
    Running,
    /// Pause of, or Exec in, a paused container.
    #[error("the container is paused")]
    Paused,
    /// Resume of a container that is not paused.
    #[error("the container is not paused")]
    NotPaused,
}

/// State of one container, with its transitions.
#[derive(Debug)]
pub struct Lifecycle {
    state: State,
}

impl Lifecycle {
    /// A created container.
    pub fn created() -> Lifecycle {
        Lifecycle { state: State::Created }
    }

    /// Present state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Begins a start.
    ///
    /// # Errors
    /// [`Refusal`] if that is not possible now; the state is unchanged then.
    pub fn start(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::Created => self.state = State::Starting,
            State::Stopped(_) => return Err(Refusal::Finished),
            _ => return Err(Refusal::Started),
        }
        Ok(())
    }

    /// Whether an exec process may be started in the container.
    pub fn may_exec(&self) -> Result<(), Refusal> {
        match self.state {
            State::Running => Ok(()),
            State::Pausing | State::Paused => Err(Refusal::Paused),
            State::Created | State::Starting | State::Stopped(_) => Err(Refusal::NotRunning),
        }
    }

    /// Ends a start: it runs.
    pub fn started(&mut self) {
        if self.state == State::Starting {
            self.state = State::Running;
        }
    }

    /// Ends a start that failed.
    pub fn start_failed(&mut self) {
        if self.state == State::Starting {
            self.state = State::Created;
        }
    }

    /// Whether it may get a signal.
    pub fn may_kill(&self) -> Result<(), Refusal> {
        match self.state {
            State::Stopped(_) => Err(Refusal::Finished),
            _ => Ok(()),
        }
    }

    /// Whether its limits may be changed.
    pub fn may_update(&self) -> Result<(), Refusal> {
        self.may_kill()
    }

    /// Begins a pause.
    ///
    /// # Errors
    /// [`Refusal`] if that is not possible now; the state is unchanged then.
    pub fn pause(&mut self) -> Result<(), Refusal> {
        match self.state {
            State::Running => self.state = State::Pausing,
            State::Created | State::Starting => return Err(Refusal::NotRunning),
            State::Pausing | State::Paused => return Err(Refusal::Paused),
            State::Stopped(_) => return Err(Refusal::Finished),
        }
        Ok(())
    }

    /// Ends a pause: it is paused.
    pub fn paused(&mut self) {
        if self.state == State::Pausing {
            self.state = State::Paused;
        }
    }

    /// Whether it may be resumed.
    pub fn may_resume(&self) -> Result<(), Refusal> {
        match self.state {
            State::Paused => Ok(()),
            State::Stopped(_) => Err(Refusal::Finished),
            _ => Err(Refusal::NotPaused),
        }
    }

    /// It was resumed, or could not be paused.
    pub fn resumed(&mut self) {
        if matches!(self.state, State::Pausing | State::Paused) {
            self.state = State::Running;
        }
    }

    /// Records the end of its first process. Returns true for the first report, which counts.
    pub fn exited(&mut self, exit: Exit) -> bool {
        let first = !matches!(self.state, State::Stopped(_));
        if first {
            self.state = State::Stopped(exit);
        }
        first
    }

    /// Whether it may be deleted. One that was created but not started is killed by Delete.
    pub fn may_delete(&self) -> Result<(), Refusal> {
        match self.state {
            State::Running | State::Pausing | State::Paused => Err(Refusal::Running),
            State::Created | State::Starting | State::Stopped(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit(code: u8) -> Exit {
        Exit { code, at: SystemTime::UNIX_EPOCH }
    }

    fn running() -> Lifecycle {
        let mut life = Lifecycle::created();
        assert_eq!(life.start(), Ok(()));
        life.started();
        life
    }

    #[test]
    fn a_created_container_can_be_started_killed_or_deleted() {
        let mut life = Lifecycle::created();
        assert_eq!(life.may_kill(), Ok(()));
        assert_eq!(life.may_delete(), Ok(()));
        assert_eq!(life.start(), Ok(()));
    }

    #[test]
    fn a_container_that_is_being_started_can_be_killed_or_deleted_and_runs_nothing_else() {
        let mut life = Lifecycle::created();
        assert_eq!(life.start(), Ok(()));
        assert_eq!(life.start(), Err(Refusal::Started));
        assert_eq!(life.may_exec(), Err(Refusal::NotRunning));
        assert_eq!(life.pause(), Err(Refusal::NotRunning));
        assert_eq!((life.may_kill(), life.may_delete()), (Ok(()), Ok(())));
    }

    #[test]
    fn what_could_not_be_started_can_be_started_again() {
        let mut life = Lifecycle::created();
        assert_eq!(life.start(), Ok(()));
        life.start_failed();
        assert_eq!(life.state(), State::Created);
        assert_eq!(life.start(), Ok(()));
        life.started();
        life.start_failed();
        assert_eq!(life.state(), State::Running);
    }

    #[test]
    fn a_running_container_is_neither_started_again_nor_deleted() {
        let mut life = running();
        assert_eq!(life.start(), Err(Refusal::Started));
        assert_eq!(life.may_delete(), Err(Refusal::Running));
        assert_eq!(life.may_kill(), Ok(()));
    }

    #[test]
    fn a_paused_container_is_resumed_or_killed_and_not_deleted() {
        let mut life = running();
        assert_eq!(life.may_resume(), Err(Refusal::NotPaused));
        assert_eq!(life.pause(), Ok(()));
        assert_eq!(life.state(), State::Pausing);
        life.paused();
        assert_eq!(life.state(), State::Paused);
        assert_eq!(life.pause(), Err(Refusal::Paused));
        assert_eq!(life.start(), Err(Refusal::Started));
        assert_eq!(life.may_delete(), Err(Refusal::Running));
        assert_eq!((life.may_kill(), life.may_update()), (Ok(()), Ok(())));
        assert_eq!(life.may_resume(), Ok(()));
        life.resumed();
        assert_eq!(life.state(), State::Running);
    }

    #[test]
    fn only_what_runs_is_paused() {
        assert_eq!(Lifecycle::created().pause(), Err(Refusal::NotRunning));
        let mut life = running();
        assert_eq!(life.pause(), Ok(()));
        assert!(life.exited(exit(137)), "killed while it was paused");
        life.paused();
        life.resumed();
        assert_eq!(life.state(), State::Stopped(exit(137)));
        assert_eq!(life.pause(), Err(Refusal::Finished));
        assert_eq!(life.may_resume(), Err(Refusal::Finished));
    }

    #[test]
    fn a_stopped_container_can_only_be_deleted() {
        let mut life = running();
        assert!(life.exited(exit(3)));
        assert_eq!(life.start(), Err(Refusal::Finished));
        assert_eq!(life.may_kill(), Err(Refusal::Finished));
        assert_eq!(life.may_delete(), Ok(()));
    }

    #[test]
    fn the_first_exit_counts() {
        let mut life = running();
        assert!(life.exited(exit(3)));
        assert!(!life.exited(exit(4)));
        assert_eq!(life.state(), State::Stopped(exit(3)));
    }

    #[test]
    fn a_container_killed_before_it_was_started_stays_stopped() {
        let mut life = Lifecycle::created();
        assert_eq!(life.start(), Ok(()));
        assert!(life.exited(exit(137)));
        life.started();
        life.start_failed();
        assert_eq!(life.state(), State::Stopped(exit(137)));
    }
}
