//! Limits that v1 and v2 have in common: how they are written, and what their numbers mean.

use std::fmt::Display;
use std::io::ErrorKind;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxPids, LinuxResources};

use super::Cgroup;
use crate::Error;

/// Value of the OCI spec for no limit.
pub const UNLIMITED: i64 = -1;

impl Cgroup {
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

/// Error of a limit that cannot be set.
pub fn limit(what: &str, value: impl Display, reason: impl Into<String>) -> Error {
    Error::Limit { what: what.to_owned(), value: value.to_string(), reason: reason.into() }
}

/// The number, if it is given: 0 means that it is not, as in runc.
pub fn given<N: PartialEq + From<u8>>(number: Option<N>) -> Option<N> {
    number.filter(|number| *number != N::from(0))
}

/// Text of a limit of v2, or of v1's limit of processes.
pub fn or_max(limit: i64) -> String {
    if limit < 0 { "max".to_owned() } else { limit.to_string() }
}

/// Sets the limit of processes.
pub fn pids(cgroup: &Cgroup, pids: Option<&LinuxPids>) -> Result<(), Error> {
    match given(pids.map(LinuxPids::limit)) {
        Some(limit) => cgroup.set("pids", "pids.max", or_max(limit)),
        None => Ok(()),
    }
}

/// Sets limits of huge pages. `file` is the last part of the name: `hugetlb.2MB.<file>`.
pub fn huge_pages(
    cgroup: &Cgroup,
    limits: Option<&[LinuxHugepageLimit]>,
    file: &str,
) -> Result<(), Error> {
    limits.unwrap_or_default().iter().try_for_each(|limit| {
        let name = format!("hugetlb.{}.{file}", limit.page_size());
        cgroup.set("hugetlb", &name, limit.limit())?;
        // The limit of reservations, in kernels that have it (5.7).
        let reserved = format!("hugetlb.{}.rsvd.{file}", limit.page_size());
        match cgroup.has("hugetlb", &reserved) {
            true => cgroup.set("hugetlb", &reserved, limit.limit()),
            false => Ok(()),
        }
    })
}

/// CPU and memory nodes, in the same files on v1 and v2.
pub fn cpuset(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), Error> {
    let Some(cpu) = resources.cpu() else { return Ok(()) };
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
            cgroup.set("cpuset", file, list)?;
        }
    }
    Ok(())
}
