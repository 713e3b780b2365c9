//! Other limits for a container that runs: the resources of the OCI spec, written to the cgroup's files.
//!
//! What is not given stays as it is, as `runc update` has it. Memory comes first: it is what a kernel refuses, and
//! then nothing was changed. systemd's scopes are written to as well, and systemd is told: when it reloads, it would set again
//! what it knows.

use std::fmt::Display;
use std::io::ErrorKind;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxPids, LinuxResources};

use super::{Cgroup, legacy, unified};
use crate::Error;

/// No limit, in numbers of the OCI spec.
pub(super) const UNLIMITED: i64 = -1;

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
            true => unified::update(self, resources),
            false => legacy::update(self, resources),
        }
    }

    /// Writes a limit.
    pub(super) fn set(
        &self,
        controller: &str,
        file: &str,
        value: impl Display,
    ) -> Result<(), Error> {
        let value = value.to_string();
        self.write(controller, file, &value).map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::NotFound => "this node's kernel has no such limit".to_owned(),
                _ => error.to_string(),
            };
            limit(file, value, reason)
        })
    }

    pub(super) fn has(&self, controller: &str, file: &str) -> bool {
        self.file(controller, file).exists()
    }

    pub(super) fn number(&self, controller: &str, file: &str) -> u64 {
        let text = self.read(controller, file).unwrap_or_default();
        text.trim().parse().unwrap_or_default()
    }
}

/// The error of a limit that cannot be set.
pub(super) fn limit(what: &str, value: impl Display, reason: impl Into<String>) -> Error {
    Error::Limit { what: what.to_owned(), value: value.to_string(), reason: reason.into() }
}

/// A number that is given: 0 is not, as in runc.
pub(super) fn given<N: PartialEq + From<u8>>(number: Option<N>) -> Option<N> {
    number.filter(|number| *number != N::from(0))
}

/// A limit as v2 has it, and v1 for processes.
pub(super) fn or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

pub(super) fn pids(cgroup: &Cgroup, pids: Option<&LinuxPids>) -> Result<(), Error> {
    match given(pids.map(LinuxPids::limit)) {
        Some(limit) => cgroup.set("pids", "pids.max", or_max(limit)),
        None => Ok(()),
    }
}

/// `file` is the last part of the name: `hugetlb.2MB.<file>`.
pub(super) fn huge_pages(
    cgroup: &Cgroup,
    limits: Option<&[LinuxHugepageLimit]>,
    file: &str,
) -> Result<(), Error> {
    limits.unwrap_or_default().iter().try_for_each(|limit| {
        let name = format!("hugetlb.{}.{file}", limit.page_size());
        cgroup.set("hugetlb", &name, limit.limit())?;
        // What is reserved, in kernels that count it (5.7).
        let reserved = format!("hugetlb.{}.rsvd.{file}", limit.page_size());
        match cgroup.has("hugetlb", &reserved) {
            true => cgroup.set("hugetlb", &reserved, limit.limit()),
            false => Ok(()),
        }
    })
}

/// CPU and memory nodes, in the same files on v1 and v2.
pub(super) fn cpuset(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), Error> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            cgroup.set("cpuset", file, list)?;
        }
    }
    Ok(())
}
