//! Update of the limits of a running container: writes the resources of the OCI spec to the cgroup's files.
//!
//! Limits that the caller does not set stay as they are, as with `runc update`. The memory limit is written first,
//! because it is the one that a kernel refuses, and nothing has changed then. systemd also gets the limits of a scope,
//! because it would otherwise set its old ones again when it reloads.

use oci_spec::runtime::LinuxResources;

use super::{Cgroup, v1, v2};
use crate::Error;

impl Cgroup {
    /// Sets the limits that are given (OCI runtime spec, "Control groups"). For a scope of systemd ([`Cgroup::by_systemd`]) it
    /// forks, so that the process must have one thread.
    ///
    /// # Errors
    /// [`Error::Limit`] if the kernel refuses a limit, or does not have it.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.set_limits(resources)?;
        if self.by_systemd() { self.limit_scope(resources) } else { Ok(()) }
    }

    /// Sets the limits in the cgroup's files only.
    pub(super) fn set_limits(&self, resources: &LinuxResources) -> Result<(), Error> {
        match self.is_v2() {
            true => v2::update(self, resources),
            false => v1::update(self, resources),
        }
    }
}
