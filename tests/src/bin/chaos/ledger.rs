//! Decides which exit codes may be reported for a container, and checks that a reported code does not change.

/// Exit code of a process that SIGKILL has ended.
const KILLED: i32 = 137;

/// Exit code that containerd reports if it does not know the real one.
const UNKNOWN: i32 = 255;

/// What has happened to a container besides its own end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    /// It may have been killed before it ended.
    pub killed: bool,
    /// There may have been no process that knew its exit code.
    pub unwatched: bool,
    /// containerd was killed when the container may have ended. containerd has the shim delete an ended task, and the
    /// code with it, before it writes the code down itself.
    pub unwritten: bool,
    /// It may never have started.
    pub unstarted: bool,
}

/// The reports about one container.
#[derive(Debug, Clone)]
pub struct Ledger {
    own: i32,
    reported: Option<i32>,
}

impl Ledger {
    /// Makes the ledger of a container that ends with that code if nothing happens to it.
    pub fn new(own: i32) -> Self {
        Self { own, reported: None }
    }

    /// Returns whether its end was reported.
    pub fn has_ended(&self) -> bool {
        self.reported.is_some()
    }

    /// Records a status. `ended` is the code of a container that has ended.
    ///
    /// # Errors
    /// A description of what is wrong with the report.
    pub fn note(&mut self, ended: Option<i32>, fate: Fate) -> Result<(), String> {
        match (self.reported, ended) {
            (None, None) => Ok(()),
            (Some(before), None) => {
                Err(format!("exit code {before} was reported, and then that it had not ended"))
            }
            (Some(before), Some(now)) if before == now => Ok(()),
            (Some(before), Some(now)) => {
                Err(format!("exit code {before} was reported, and then {now}"))
            }
            (None, Some(code)) => {
                self.reported = Some(code);
                self.judge(code, fate)
            }
        }
    }

    fn judge(&self, code: i32, fate: Fate) -> Result<(), String> {
        let mut allowed = vec![self.own];
        if fate.killed || fate.unwatched {
            allowed.push(KILLED);
        }
        if fate.unwatched || fate.unwritten {
            allowed.push(UNKNOWN);
        }
        if fate.unstarted || allowed.contains(&code) {
            return Ok(());
        }
        Err(format!("exit code {code} was reported, but only {allowed:?} can be true ({fate:?})"))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const ALONE: Fate =
        Fate { killed: false, unwatched: false, unwritten: false, unstarted: false };

    #[test]
    fn a_container_that_nothing_was_done_to_has_its_own_code() {
        assert!(Ledger::new(7).note(Some(7), ALONE).is_ok());
        for wrong in [0, KILLED, UNKNOWN] {
            assert!(Ledger::new(7).note(Some(wrong), ALONE).is_err(), "{wrong}");
        }
    }

    #[test]
    fn one_that_was_killed_may_have_ended_before() {
        let fate = Fate { killed: true, ..ALONE };
        for code in [7, KILLED] {
            assert!(Ledger::new(7).note(Some(code), fate).is_ok(), "{code}");
        }
        for wrong in [0, UNKNOWN] {
            assert!(Ledger::new(7).note(Some(wrong), fate).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_unwatched_end_may_be_reported_as_unknown_but_not_as_another_code() {
        let fate = Fate { unwatched: true, ..ALONE };
        for code in [7, KILLED, UNKNOWN] {
            assert!(Ledger::new(7).note(Some(code), fate).is_ok(), "{code}");
        }
        assert!(Ledger::new(7).note(Some(0), fate).is_err());
    }

    #[test]
    fn a_restart_of_containerd_kills_nothing() {
        let fate = Fate { unwritten: true, ..ALONE };
        for code in [7, UNKNOWN] {
            assert!(Ledger::new(7).note(Some(code), fate).is_ok(), "{code}");
        }
        assert!(Ledger::new(7).note(Some(KILLED), fate).is_err());
    }

    #[test]
    fn a_code_that_was_reported_stays_whatever_happens_later() {
        let fate = Fate { killed: true, unwatched: true, unwritten: true, unstarted: true };
        let mut ledger = Ledger::new(7);
        assert!(ledger.note(None, fate).is_ok() && !ledger.has_ended());
        assert!(ledger.note(Some(7), fate).is_ok() && ledger.has_ended());
        assert!(ledger.note(Some(7), fate).is_ok());
        assert!(ledger.note(Some(UNKNOWN), fate).is_err());
        assert!(ledger.note(None, fate).is_err());
    }
}
