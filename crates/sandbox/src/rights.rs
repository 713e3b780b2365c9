//! What a process of a container may do and use: its capabilities, labels and limits, fitted to what it runs.

use std::collections::HashSet;

use oci_spec::runtime::{
    Capability, LinuxCapabilitiesBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
    Process, Spec,
};

/// What it does not say of its rights and limits is as in the first process.
pub fn with_the_rest_of(mut process: Process, first: &Process) -> Process {
    if process.capabilities().is_none() {
        process.set_capabilities(first.capabilities().clone());
    }
    if process.rlimits().is_none() {
        process.set_rlimits(first.rlimits().clone());
    }
    if process.apparmor_profile().is_none() {
        process.set_apparmor_profile(first.apparmor_profile().clone());
    }
    if process.no_new_privileges().is_none() {
        process.set_no_new_privileges(first.no_new_privileges());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(first.oom_score_adj());
    }
    process
}

/// What a guest needs: nothing that only a program could use.
pub fn reduce(process: &mut Process) {
    process.set_no_new_privileges(Some(true));
    // A label is put on at execve(2), which a guest does not go through.
    process.set_apparmor_profile(None);
    process.set_selinux_label(None);
    drop_capabilities(process);
}

/// Only a port below 1024 is something a guest could use a capability for.
fn drop_capabilities(process: &mut Process) {
    let granted = process
        .capabilities()
        .as_ref()
        .and_then(|capabilities| capabilities.effective().clone())
        .unwrap_or_default();
    let kept: HashSet<Capability> = granted
        .into_iter()
        .filter(|capability| *capability == Capability::NetBindService)
        .collect();
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(kept.clone())
        .effective(kept.clone())
        .inheritable(HashSet::new())
        .permitted(kept.clone())
        .ambient(kept)
        .build();
    process.set_capabilities(capabilities.ok());
}

/// A guest's process learns of its container's memory limit by `RLIMIT_RSS`, of which the kernel makes nothing
/// (getrlimit(2)): it sees no cgroup. `now` is the limit in force, where it may have changed since the spec. One that
/// the spec gives by itself takes its place.
pub fn tell_memory_limit(spec: &mut Spec, now: Option<u64>) {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let given = resources.and_then(|resources| resources.memory().as_ref()?.limit());
    let given = given.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
    let is_changed = now.is_some() && now != given;
    let Some(limit) = now.or(given) else { return };
    let Some(process) = spec.process_mut() else { return };
    let mut rlimits = process.rlimits().clone().unwrap_or_default();
    let is_told = |rlimit: &PosixRlimit| rlimit.typ() == PosixRlimitType::RlimitRss;
    if rlimits.iter().any(is_told) && !is_changed {
        return;
    }
    rlimits.retain(|rlimit| !is_told(rlimit));
    // The hard limit stays open, for a limit that is raised while the guest runs.
    let rlimit = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitRss).soft(limit);
    rlimits.extend(rlimit.hard(u64::MAX).build());
    process.set_rlimits(Some(rlimits));
}
