//! Rights of a container's process: its capabilities, labels and limits, fitted to its workload.

use std::collections::HashSet;

use oci_spec::runtime::{
    Capability, LinuxCapabilitiesBuilder, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
    Process, Spec,
};

/// Completes the rights and limits of an exec process by those of the first process.
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

/// Reduces rights to those of a guest: rights that only a program could use are dropped.
pub fn reduce(process: &mut Process) {
    process.set_no_new_privileges(Some(true));
    // A label takes effect at execve(2), which a guest does not call.
    process.set_apparmor_profile(None);
    process.set_selinux_label(None);
    drop_capabilities(process);
}

/// Drops all capabilities but the one for ports below 1024: a guest could not use the others.
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

/// Passes the container's memory limit to a guest's process as `RLIMIT_RSS`, which the kernel ignores (getrlimit(2)), because
/// the guest cannot see its cgroup. `now` is the limit in force, if it may have changed since the spec. A `RLIMIT_RSS` of the
/// spec takes precedence.
pub fn pass_memory_limit(spec: &mut Spec, now: Option<u64>) {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let given = resources.and_then(|resources| resources.memory().as_ref()?.limit());
    let given = given.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
    let is_changed = now.is_some() && now != given;
    let Some(limit) = now.or(given) else { return };
    let Some(process) = spec.process_mut() else { return };
    let mut rlimits = process.rlimits().clone().unwrap_or_default();
    let is_rss = |rlimit: &PosixRlimit| rlimit.typ() == PosixRlimitType::RlimitRss;
    if rlimits.iter().any(is_rss) && !is_changed {
        return;
    }
    rlimits.retain(|rlimit| !is_rss(rlimit));
    // There is no hard limit, so that the limit can be raised while the guest runs.
    let rlimit = PosixRlimitBuilder::default().typ(PosixRlimitType::RlimitRss).soft(limit);
    rlimits.extend(rlimit.hard(u64::MAX).build());
    process.set_rlimits(Some(rlimits));
}
