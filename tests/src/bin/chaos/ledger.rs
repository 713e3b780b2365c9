//! Which exit codes may be reported of a container, and whether what was reported stays.

/// The code of a process that SIGKILL has ended.
const KILLED: i32 = 137;

/// What containerd reports where it does not know the code.
const UNKNOWN: i32 = 255;

/// What has befallen a container beside its own end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fate {
    /// Somebody may have killed it before it ended.
    pub killed: bool,
    /// Nobody may have been there who knew its code.
    pub unwatched: bool,
    /// containerd was killed when it may have ended: it has the shim delete an ended task, and with it the code, before
    /// it writes the code down itself.
    pub unwritten: bool,
    /// It may never have started.
    pub unstarted: bool,
}

/// What was reported of one container.
#[derive(Debug, Clone)]
pub struct Ledger {
    own: i32,
    reported: Option<i32>,
}

impl Ledger {
    /// Of a container that ends with that code if nothing is done to it.
    pub fn new(own: i32) -> Self {
        Self { own, reported: None }
    }

    /// Whether its end was reported.
    pub fn has_ended(&self) -> bool {
        self.reported.is_some()
    }

    /// Notes what a status says: the code of a container that has ended.
    ///
    /// # Errors
    /// What is wrong with it.
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
        Err(format!("exit code {code} was reported, where only {allowed:?} can be true ({fate:?})"))
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
    fn what_nobody_saw_may_be_unknown_but_not_something_else() {
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
