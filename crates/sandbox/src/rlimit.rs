//! Resource limits that are not set with the others: the memory limit of a running guest (prlimit(2)), and a low limit of open
//! files.

use nix::sys::resource::{Resource, setrlimit};
use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Spec};
use rustix::process::{Rlimit, prlimit};

use crate::pidfd::PidFd;
use crate::{Error, limits, syscalls};

/// Low limit of open files. It is applied as the last step before the workload, because setting up a process needs more
/// descriptors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenFiles(Option<PosixRlimit>);

impl OpenFiles {
    /// Replaces a low limit in the spec by one that is high enough for the set-up.
    pub fn withhold(spec: &mut Spec) -> OpenFiles {
        let Some(process) = spec.process_mut() else { return OpenFiles(None) };
        let mut rlimits = process.rlimits().clone().unwrap_or_default();
        let is_low = |limit: &&mut PosixRlimit| {
            limit.typ() == PosixRlimitType::RlimitNofile && limit.soft() < limits::DESCRIPTORS
        };
        let Some(limit) = rlimits.iter_mut().find(is_low) else { return OpenFiles(None) };
        let (withheld, enough) = (*limit, limits::DESCRIPTORS);
        let early = PosixRlimitBuilder::default().typ(withheld.typ());
        let Ok(early) = early.soft(enough).hard(withheld.hard().max(enough)).build() else {
            return OpenFiles(None);
        };
        *limit = early;
        process.set_rlimits(Some(rlimits));
        OpenFiles(Some(withheld))
    }

    /// Applies the limit to this process.
    pub fn apply(self) -> nix::Result<()> {
        let Some(limit) = self.0 else { return Ok(()) };
        setrlimit(Resource::RLIMIT_NOFILE, limit.soft(), limit.hard())
    }
}

/// Passes a changed memory limit of the container, or none, to a guest's process, as its soft `RLIMIT_RSS`, which the kernel
/// ignores. Does nothing if the process has ended.
///
/// # Errors
/// [`Error::System`] with EPERM if the process belongs to another user and this one has no CAP_SYS_RESOURCE.
pub fn pass_memory_limit(process: &PidFd, limit: Option<u64>) -> Result<(), Error> {
    let pid = process.pid();
    let new = Rlimit { current: limit, maximum: None };
    let set = syscalls::pid(pid)
        .and_then(|pid| syscalls::result(prlimit(Some(pid), rustix::process::Resource::Rss, new)));
    match set {
        Ok(_) | Err(nix::Error::ESRCH) => Ok(()),
        Err(source) => Err(Error::system(format!("set the memory limit of process {pid}"))(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn withheld(soft: u64, hard: u64) -> (Option<(u64, u64)>, (u64, u64)) {
        let limit = serde_json::json!({ "type": "RLIMIT_NOFILE", "soft": soft, "hard": hard });
        let process =
            serde_json::json!({ "cwd": "/", "user": { "uid": 0, "gid": 0 }, "rlimits": [limit] });
        let spec = serde_json::json!({ "ociVersion": "1.0.2", "process": process });
        let mut spec: Spec = serde_json::from_value(spec).expect("a spec");
        let OpenFiles(withheld) = OpenFiles::withhold(&mut spec);
        let left = spec.process().as_ref().and_then(|process| process.rlimits().clone());
        let both = |limit: PosixRlimit| (limit.soft(), limit.hard());
        (withheld.map(both), both(left.expect("limits")[0]))
    }

    #[test]
    fn a_low_limit_of_descriptors_waits_for_the_program() {
        let enough = limits::DESCRIPTORS;
        assert_eq!(withheld(4, 8), (Some((4, 8)), (enough, enough)));
        assert_eq!(withheld(4, 4096), (Some((4, 4096)), (enough, 4096)));
        assert_eq!(withheld(1024, 4096), (None, (1024, 4096)));
    }
}
