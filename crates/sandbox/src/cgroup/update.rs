//! Other limits for a container that runs: the resources of the OCI spec, written to the cgroup's files.
//!
//! What is not given stays as it is, as `runc update` has it. Memory comes first: it is what a kernel refuses, and
//! then nothing was changed. systemd's scopes are written to as well, and systemd is told: when it reloads, it would set again
//! what it knows.

use oci_spec::runtime::LinuxResources;

use super::{Cgroup, v1, v2};
use crate::Error;

impl Cgroup {
    /// Sets the limits that are given (OCI runtime spec, "Control groups"). For a scope of systemd ([`Cgroup::by_systemd`]) it
    /// forks, and is for processes with one thread.
    ///
    /// # Errors
    /// [`Error::Limit`] when the kernel does not take one, or has no such limit.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.set_limits(resources)?;
        if self.by_systemd() { self.limit_scope(resources) } else { Ok(()) }
    }

    /// The same, in its files alone.
    pub(super) fn set_limits(&self, resources: &LinuxResources) -> Result<(), Error> {
        match self.is_unified() {
            true => v2::update(self, resources),
            false => v1::update(self, resources),
        }
    }
}
