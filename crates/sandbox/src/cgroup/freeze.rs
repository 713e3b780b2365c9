//! Stops every process of the cgroup where it is, and lets them go on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Cgroup, refuse};
use crate::Error;
use crate::wait::{self, Tries};

/// v1: one of the states below is written and read (kernel, cgroup-v1/freezer-subsystem.rst).
const STATE: &str = "freezer.state";
const FROZEN: &str = "FROZEN";
const THAWED: &str = "THAWED";

/// v2: 1 or 0 is written, and `frozen 1` is read in the events once it is so (kernel, cgroup-v2.rst, "Core
/// Interface Files").
const FREEZE: &str = "cgroup.freeze";
const EVENTS: &str = "cgroup.events";

/// 2 s in all. A process in an uninterruptible wait outlives that, and then nothing stays frozen.
const TRIES: Tries = Tries { count: 200, pause: Duration::from_millis(10) };

impl Cgroup {
    /// Freezes its processes, and returns once the last has stopped.
    ///
    /// # Errors
    /// [`Error::Cgroup`] when one does not stop in time, and then none is; or the host has no freezer.
    pub fn freeze(&self) -> Result<(), Error> {
        self.freeze_within(TRIES)
    }

    fn freeze_within(&self, tries: Tries) -> Result<(), Error> {
        let frozen = wait::try_until(tries, || {
            // On v1 again each time: a process that is made meanwhile may not have been seen.
            self.set_frozen(true)?;
            Ok(self.is_frozen().then_some(()))
        })?;
        if frozen.is_some() {
            return Ok(());
        }
        self.thaw()?;
        Err(refuse(&self.path, "its processes do not stop in time; they go on as before"))
    }

    /// Lets its processes go on; those that were not frozen do so anyway.
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    /// Whether all its processes are frozen.
    fn is_frozen(&self) -> bool {
        match self.is_unified() {
            true => {
                let events = self.read("", EVENTS).unwrap_or_default();
                events.lines().any(|line| line == "frozen 1")
            }
            false => self.read("freezer", STATE).is_some_and(|state| state.trim() == FROZEN),
        }
    }

    /// v1: signals do not reach the frozen, SIGKILL neither: whoever sends that lets go of the cgroup and of those
    /// that were made below it. On v2 it reaches them. Where there is no freezer, nothing is frozen.
    pub fn thaw_for_kill(&self) {
        if !self.is_unified() {
            self.thaw_below(&self.file("freezer", "."));
        }
    }

    fn thaw_below(&self, folder: &Path) {
        let _ = fs::write(folder.join(STATE), THAWED);
        for child in self.children(folder).unwrap_or_default() {
            self.thaw_below(&child);
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let written = match self.is_unified() {
            true => self.write("", FREEZE, if frozen { "1" } else { "0" }),
            false => self.write("freezer", STATE, if frozen { FROZEN } else { THAWED }),
        };
        written.map_err(|error| self.failed(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unified(events: &str) -> (tempfile::TempDir, Cgroup) {
        let host = tempfile::tempdir().expect("temporary folder");
        let folder = host.path().join("pods/c1");
        fs::create_dir_all(&folder).expect("a cgroup");
        fs::write(host.path().join("cgroup.controllers"), "memory").expect("v2");
        fs::write(folder.join(EVENTS), events).expect("its events");
        fs::write(folder.join(FREEZE), "0").expect("its freezer");
        let cgroup = Cgroup::in_hierarchies(host.path(), Some(Path::new("/pods/c1")), "c1", false);
        (host, cgroup.expect("a cgroup"))
    }

    #[test]
    fn on_v2_frozen_is_what_the_events_say() {
        let (_host, cgroup) = unified("populated 1\nfrozen 1\n");
        cgroup.freeze_within(Tries { count: 1, ..TRIES }).expect("is frozen");
        assert_eq!(cgroup.read("", FREEZE).as_deref(), Some("1"));
        cgroup.thaw().expect("goes on");
        assert_eq!(cgroup.read("", FREEZE).as_deref(), Some("0"));
    }

    #[test]
    fn a_cgroup_that_does_not_freeze_in_time_goes_on() {
        let (_host, cgroup) = unified("populated 1\nfrozen 0\n");
        let error = cgroup
            .freeze_within(Tries { count: 2, ..TRIES })
            .expect_err("does not freeze")
            .to_string();
        assert!(error.contains("do not stop in time"), "{error}");
        assert_eq!(cgroup.read("", FREEZE).as_deref(), Some("0"));
    }

    #[test]
    fn on_v1_those_below_are_thawed_for_their_end() {
        let host = tempfile::tempdir().expect("temporary folder");
        let folder = host.path().join("freezer/pods/c1");
        for folder in [folder.clone(), folder.join("child")] {
            fs::create_dir_all(&folder).expect("a cgroup");
            fs::write(folder.join(STATE), "FROZEN\n").expect("its state");
        }
        let cgroup = Cgroup::in_hierarchies(host.path(), Some(Path::new("/pods/c1")), "c1", false);
        let cgroup = cgroup.expect("a cgroup");
        assert!(cgroup.is_frozen());
        cgroup.thaw_for_kill();
        assert!(!cgroup.is_frozen());
        let child = fs::read_to_string(folder.join("child").join(STATE)).expect("its state");
        assert_eq!(child, THAWED);
    }
}
