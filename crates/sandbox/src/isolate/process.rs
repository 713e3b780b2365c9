//! Properties of a container's process: user and groups, capabilities, limits and scheduling. They apply to its first process
//! and to exec processes.

use std::collections::HashSet;
use std::os::fd::OwnedFd;

use caps::{CapSet, CapsHashSet};
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{
    Gid, Pid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, setgroups, setresgid, setresuid,
};
use oci_spec::runtime::{
    Capability, IOPriorityClass, LinuxCapabilities, LinuxIOPriority, LinuxPersonality,
    LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimit, Scheduler, User,
};

use super::errors::{Failed, Step};

/// Umask of a process whose spec has none, as of runc.
const UMASK: u32 = 0o022;

/// Sets the umask (umask(2)).
pub fn set_umask(user: &User) {
    umask(Mode::from_bits_truncate(user.umask().unwrap_or(UMASK)));
}

/// Connects stdin, stdout and stderr; one that is `None` stays as it is.
pub fn connect_stdio([stdin, stdout, stderr]: [Option<OwnedFd>; 3]) -> nix::Result<()> {
    stdin.map_or(Ok(()), dup2_stdin)?;
    stdout.map_or(Ok(()), dup2_stdout)?;
    stderr.map_or(Ok(()), dup2_stderr)
}

/// Sets limits of a process, a child of this one or itself.
pub fn set_limits(pid: Pid, limits: &[PosixRlimit]) -> Result<(), Failed> {
    limits.iter().try_for_each(|limit| {
        let new = libc::rlimit { rlim_cur: limit.soft(), rlim_max: limit.hard() };
        // The type of the OCI spec has the numbers of the platform.
        let resource = limit.typ() as libc::__rlimit_resource_t;
        // SAFETY: `new` is read by the call and lives as long; a null pointer for the old limits is allowed.
        let set = unsafe { libc::prlimit(pid.as_raw(), resource, &new, std::ptr::null_mut()) };
        let failed = Failed::at(Step::Limit(limit.typ().to_string()));
        Errno::result(set).map(drop).map_err(failed)
    })
}

/// Becomes the user with its groups, and keeps the capabilities, which [`drop_capabilities`] reduces later.
pub fn become_user(user: &User) -> Result<(), Failed> {
    let groups = user.additional_gids().as_deref().unwrap_or_default();
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(Failed::at(Step::Groups))?;
    set_ids(user).map_err(Failed::at(Step::User(user.uid(), user.gid())))?;
    // The change of user has cleared the effective set.
    caps::read(None, CapSet::Permitted)
        .and_then(|permitted| caps::set(None, CapSet::Effective, &permitted))
        .map_err(|error| Failed::new(Step::Capabilities, error.to_string()))
}

fn set_ids(user: &User) -> nix::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    prctl::set_keepcaps(true)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    prctl::set_keepcaps(false)
}

/// Keeps only the capabilities of the spec, in each of the five sets (capabilities(7)).
pub fn drop_capabilities(granted: &LinuxCapabilities) -> Result<(), Failed> {
    let failed =
        |error: caps::errors::CapsError| Failed::new(Step::Capabilities, error.to_string());
    let bounding = set(granted.bounding().as_ref());
    for capability in caps::read(None, CapSet::Bounding).map_err(failed)?.difference(&bounding) {
        caps::drop(None, CapSet::Bounding, *capability).map_err(failed)?;
    }
    let sets = [
        (CapSet::Effective, granted.effective()),
        (CapSet::Permitted, granted.permitted()),
        (CapSet::Inheritable, granted.inheritable()),
    ];
    for (kind, given) in sets {
        caps::set(None, kind, &set(given.as_ref())).map_err(failed)?;
    }
    caps::clear(None, CapSet::Ambient).map_err(failed)?;
    for capability in set(granted.ambient().as_ref()) {
        // The kernel refuses those that are not inheritable as well. runc ignores that, too.
        let _ = caps::raise(None, CapSet::Ambient, capability);
    }
    Ok(())
}

fn set(given: Option<&HashSet<Capability>>) -> CapsHashSet {
    // The names of the spec are those of the kernel without `CAP_`.
    let named = given.into_iter().flatten().filter_map(|it| format!("CAP_{it}").parse().ok());
    named.collect()
}

/// Sets the I/O priority (ioprio_set(2)).
pub fn set_io_priority(priority: &LinuxIOPriority) -> Result<(), Failed> {
    const OF_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: i64 = 13;
    let class = match priority.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    let step = || Step::Property("I/O priority".into());
    if !(0..=7).contains(&priority.priority()) {
        return Err(Failed::new(step(), "it has to be one of 0 to 7"));
    }
    let value = class << CLASS_SHIFT | priority.priority();
    // SAFETY: the call takes three numbers; process 0 is this one.
    let set = unsafe { libc::syscall(libc::SYS_ioprio_set, OF_PROCESS, 0, value) };
    Errno::result(set).map(drop).map_err(Failed::at(step()))
}

/// Sets the scheduling policy (sched_setattr(2)).
pub fn set_scheduler(scheduler: &Scheduler) -> Result<(), Failed> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => 0,
        LinuxSchedulerPolicy::SchedFifo => 1,
        LinuxSchedulerPolicy::SchedRr => 2,
        LinuxSchedulerPolicy::SchedBatch => 3,
        LinuxSchedulerPolicy::SchedIso => 4,
        LinuxSchedulerPolicy::SchedIdle => 5,
        LinuxSchedulerPolicy::SchedDeadline => 6,
    };
    let flag = |flag: &LinuxSchedulerFlag| match flag {
        LinuxSchedulerFlag::SchedResetOnFork => 0x01,
        LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
        LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
        LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
        LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
        LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
        LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
    };
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy,
        sched_flags: scheduler.flags().iter().flatten().map(flag).sum(),
        sched_nice: scheduler.nice().unwrap_or(0),
        sched_priority: scheduler.priority().unwrap_or(0).unsigned_abs(),
        sched_runtime: scheduler.runtime().unwrap_or(0),
        sched_deadline: scheduler.deadline().unwrap_or(0),
        sched_period: scheduler.period().unwrap_or(0),
    };
    // SAFETY: the attributes outlive the call and begin with their size; the process 0 is this one.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    Errno::result(set).map(drop).map_err(Failed::at(Step::Property("scheduling policy".into())))
}

/// `PER_LINUX32` of `linux/personality.h`.
const PER_LINUX32: libc::c_ulong = 8;

/// Sets the execution domain (personality(2)).
pub fn set_personality(personality: &LinuxPersonality) -> Result<(), Failed> {
    let step = || Step::Property("personality".into());
    if personality.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(Failed::new(step(), "it can have no flags"));
    }
    let domain = match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => PER_LINUX32,
    };
    // SAFETY: the call takes a number.
    let set = unsafe { libc::personality(domain) };
    Errno::result(set).map(drop).map_err(Failed::at(step()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_found_by_their_names() {
        let granted = HashSet::from([Capability::NetBindService, Capability::SysAdmin]);
        let expected = [caps::Capability::CAP_NET_BIND_SERVICE, caps::Capability::CAP_SYS_ADMIN];
        assert_eq!(set(Some(&granted)), CapsHashSet::from_iter(expected));
        assert_eq!(set(None), CapsHashSet::new());
    }

    #[test]
    fn what_cannot_be_set_is_named() {
        let limit = serde_json::json!({ "type": "RLIMIT_NOFILE", "soft": 2, "hard": 1 });
        let limit: PosixRlimit = serde_json::from_value(limit).expect("a limit");
        let refused = set_limits(Pid::this(), &[limit]).expect_err("soft is above hard");
        assert_eq!(refused.to_string(), "cannot set the limit RLIMIT_NOFILE: invalid argument");
        let priority = serde_json::json!({ "class": "IOPRIO_CLASS_BE", "priority": 9 });
        let priority = serde_json::from_value(priority).expect("a priority");
        let refused = set_io_priority(&priority).expect_err("out of range").to_string();
        assert!(refused.contains("0 to 7"), "{refused}");
    }
}
