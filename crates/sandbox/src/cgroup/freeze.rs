//! Freezer: freezes all processes of the cgroup, and thaws them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Cgroup, refuse};
use crate::Error;
use crate::wait::{self, Tries};

/// File of v1, with one of the states below (kernel, cgroup-v1/freezer-subsystem.rst).
const STATE: &str = "freezer.state";
const FROZEN: &str = "FROZEN";
const THAWED: &str = "THAWED";

/// Files of v2: 1 or 0 is written to the first, and the second has `frozen 1` when all are frozen (kernel, cgroup-v2.rst, "Core
/// Interface Files").
const FREEZE: &str = "cgroup.freeze";
const EVENTS: &str = "cgroup.events";

/// How long to wait until all are frozen: 2 s in all. A process in an uninterruptible wait may take longer; then all are thawed.
const TRIES: Tries = Tries { count: 200, pause: Duration::from_millis(10) };

impl Cgroup {
    /// Freezes its processes, and returns when all are frozen.
    ///
    /// # Errors
    /// [`Error::Cgroup`] if a process is not frozen in time, in which case all are thawed, or if the host has no freezer.
    pub fn freeze(&self) -> Result<(), Error> {
        self.freeze_within(TRIES)
    }

    fn freeze_within(&self, tries: Tries) -> Result<(), Error> {
        let frozen = wait::try_until(tries, || {
            // v1 needs this each time, because it may miss a process that is being forked.
            self.set_frozen(true)?;
            Ok(self.is_frozen().then_some(()))
        })?;
        if frozen.is_some() {
            return Ok(());
        }
        self.thaw()?;
        Err(refuse(&self.path, "its processes do not stop in time; they go on as before"))
    }

    /// Thaws its processes.
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    /// Whether all its processes are frozen.
    fn is_frozen(&self) -> bool {
        match self.is_v2() {
            true => {
                let events = self.read("", EVENTS).unwrap_or_default();
                events.lines().any(|line| line == "frozen 1")
            }
            false => self.read("freezer", STATE).is_some_and(|state| state.trim() == FROZEN),
        }
    }

    /// Thaws the cgroup and those below it on v1, where not even SIGKILL reaches a frozen process. On v2 it does. To be called
    /// after SIGKILL was sent.
    pub fn thaw_for_kill(&self) {
        if !self.is_v2() {
            self.thaw_below(&self.file("freezer", "."));
        }
    }

    fn thaw_below(&self, directory: &Path) {
        let _ = fs::write(directory.join(STATE), THAWED);
        for child in self.children(directory).unwrap_or_default() {
            self.thaw_below(&child);
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let written = match self.is_v2() {
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
        let host = tempfile::tempdir().expect("temporary directory");
        let directory = host.path().join("pods/c1");
        fs::create_dir_all(&directory).expect("a cgroup");
        fs::write(host.path().join("cgroup.controllers"), "memory").expect("v2");
        fs::write(directory.join(EVENTS), events).expect("its events");
        fs::write(directory.join(FREEZE), "0").expect("its freezer");
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
        let host = tempfile::tempdir().expect("temporary directory");
        let directory = host.path().join("freezer/pods/c1");
        for directory in [directory.clone(), directory.join("child")] {
            fs::create_dir_all(&directory).expect("a cgroup");
            fs::write(directory.join(STATE), "FROZEN\n").expect("its state");
        }
        let cgroup = Cgroup::in_hierarchies(host.path(), Some(Path::new("/pods/c1")), "c1", false);
        let cgroup = cgroup.expect("a cgroup");
        assert!(cgroup.is_frozen());
        cgroup.thaw_for_kill();
        assert!(!cgroup.is_frozen());
        let child = fs::read_to_string(directory.join("child").join(STATE)).expect("its state");
        assert_eq!(child, THAWED);
    }
}
