//! Limits of v1 (kernel, cgroup-v1/memory.rst and scheduler/sched-bwc.rst), in the order in which the kernel accepts them.

use std::io::ErrorKind;

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::Cgroup;
use super::limits::{UNLIMITED, cpuset, given, huge_pages, limit, pids};
use crate::Error;

pub const LIMIT: &str = "memory.limit_in_bytes";
/// Limit of memory and swap together, which is never below the limit of memory.
const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
const RESERVATION: &str = "memory.soft_limit_in_bytes";
const USAGE: &str = "memory.usage_in_bytes";
const PEAK: &str = "memory.max_usage_in_bytes";

const SHARES: &str = "cpu.shares";
const PERIOD: &str = "cpu.cfs_period_us";
const QUOTA: &str = "cpu.cfs_quota_us";

pub fn update(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), Error> {
    if let Some(key) = resources.unified().as_ref().and_then(|unified| unified.keys().next()) {
        return Err(limit(key, "unified", "it is one of cgroups v2, and this node has v1"));
    }
    resources.memory().as_ref().map_or(Ok(()), |it| memory(cgroup, it))?;
    resources.cpu().as_ref().map_or(Ok(()), |it| cpu(cgroup, it))?;
    cpuset(cgroup, resources)?;
    pids(cgroup, resources.pids().as_ref())?;
    huge_pages(cgroup, resources.hugepage_limits().as_deref(), "limit_in_bytes")
}

fn memory(cgroup: &Cgroup, memory: &LinuxMemory) -> Result<(), Error> {
    let wanted = given(memory.limit());
    let with_swap = with_swap(cgroup, wanted, given(memory.swap()))?;
    let raised = |to: i64| to == UNLIMITED || cgroup.number("memory", LIMIT) < to as u64;
    // The kernel refuses a limit of memory above the limit of both, even for a moment.
    let sum_first = wanted.is_some() && with_swap.is_some_and(raised);
    let sum = || with_swap.map_or(Ok(()), |it| set_memory(cgroup, WITH_SWAP, it));
    if sum_first {
        sum()?;
    }
    wanted.map_or(Ok(()), |it| set_memory(cgroup, LIMIT, it))?;
    if !sum_first {
        sum()?;
    }
    given(memory.reservation()).map_or(Ok(()), |it| cgroup.set("memory", RESERVATION, it))?;
    memory.swappiness().map_or(Ok(()), |it| cgroup.set("memory", "memory.swappiness", it))?;
    if memory.disable_oom_killer() == Some(true) {
        cgroup.set("memory", "memory.oom_control", 1)?;
    }
    Ok(())
}

/// Limit of memory and swap together. If memory becomes unlimited, so do both, unless a limit is given. If the kernel does not
/// count swap, there is no such limit.
fn with_swap(
    cgroup: &Cgroup,
    wanted: Option<i64>,
    swap: Option<i64>,
) -> Result<Option<i64>, Error> {
    if cgroup.has("memory", WITH_SWAP) {
        let implied = wanted.filter(|wanted| *wanted == UNLIMITED);
        return Ok(swap.or(implied));
    }
    match swap {
        Some(swap) if swap != UNLIMITED && Some(swap) != wanted => {
            Err(limit(WITH_SWAP, swap, "this node's kernel does not count swap"))
        }
        _ => Ok(None),
    }
}

fn set_memory(cgroup: &Cgroup, file: &str, bytes: i64) -> Result<(), Error> {
    match cgroup.write("memory", file, &bytes.to_string()) {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => {
            let (now, peak) = (cgroup.number("memory", USAGE), cgroup.number("memory", PEAK));
            let reason = format!(
                "the container uses {now} bytes now (at its peak {peak}) and cannot do with less; its limit stays as \
                 it was"
            );
            Err(limit(file, bytes, reason))
        }
        Err(error) => Err(limit(file, bytes, error.to_string())),
        Ok(()) => Ok(()),
    }
}

fn cpu(cgroup: &Cgroup, cpu: &LinuxCpu) -> Result<(), Error> {
    given(cpu.shares()).map_or(Ok(()), |shares| cgroup.set("cpu", SHARES, shares))?;
    let (quota, period) = (given(cpu.quota()), given(cpu.period()));
    // A shorter period may make the old quota too large for the cgroups above. In that case the quota must come first.
    let early = period.is_some_and(|period| cgroup.set("cpu", PERIOD, period).is_ok());
    quota.map_or(Ok(()), |quota| cgroup.set("cpu", QUOTA, quota))?;
    if let Some(period) = period.filter(|_| !early) {
        cgroup.set("cpu", PERIOD, period)?;
    }
    cpu.burst().map_or(Ok(()), |burst| cgroup.set("cpu", "cpu.cfs_burst_us", burst))?;
    given(cpu.realtime_period()).map_or(Ok(()), |it| cgroup.set("cpu", "cpu.rt_period_us", it))?;
    given(cpu.realtime_runtime())
        .map_or(Ok(()), |it| cgroup.set("cpu", "cpu.rt_runtime_us", it))?;
    cpu.idle().map_or(Ok(()), |idle| cgroup.set("cpu", "cpu.idle", idle))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn host() -> (tempfile::TempDir, Cgroup) {
        let host = tempfile::tempdir().expect("temporary directory");
        let files = [
            ("memory", LIMIT, "1000"),
            ("memory", WITH_SWAP, "1000"),
            ("memory", RESERVATION, "0"),
            ("cpu", SHARES, "1024"),
            ("cpu", PERIOD, "100000"),
            ("cpu", QUOTA, "-1"),
            ("cpuset", "cpuset.cpus", "0-3"),
            ("pids", "pids.max", "max"),
            ("hugetlb", "hugetlb.2MB.limit_in_bytes", "0"),
        ];
        for (controller, file, text) in files {
            let directory = host.path().join(controller).join("pods/c1");
            fs::create_dir_all(&directory).expect("a cgroup");
            fs::write(directory.join(file), text).expect("a file of it");
        }
        let cgroup = Cgroup::in_hierarchies(host.path(), Some(Path::new("/pods/c1")), "c1", false);
        (host, cgroup.expect("a cgroup"))
    }

    fn set(cgroup: &Cgroup, resources: Value) -> Result<(), Error> {
        cgroup.update(&serde_json::from_value(resources).expect("resources"))
    }

    #[test]
    fn each_limit_is_written_where_it_belongs_and_the_others_stay() {
        let (_host, cgroup) = host();
        let resources = json!({
            "memory": { "limit": 5000, "swap": 5000, "reservation": 400 },
            "cpu": { "shares": 512, "quota": 50000, "period": 0, "cpus": "0-1", "mems": "" },
            "pids": { "limit": -1 },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 4096 }]
        });
        set(&cgroup, resources).expect("are set");
        let expected = [
            ("memory", LIMIT, "5000"),
            ("memory", WITH_SWAP, "5000"),
            ("memory", RESERVATION, "400"),
            ("cpu", SHARES, "512"),
            ("cpu", PERIOD, "100000"),
            ("cpu", QUOTA, "50000"),
            ("cpuset", "cpuset.cpus", "0-1"),
            ("pids", "pids.max", "max"),
            ("hugetlb", "hugetlb.2MB.limit_in_bytes", "4096"),
        ];
        for (controller, file, text) in expected {
            assert_eq!(cgroup.read(controller, file).as_deref(), Some(text), "{file}");
        }
    }

    #[test]
    fn no_limit_of_memory_means_none_of_swap() {
        let (_host, cgroup) = host();
        set(&cgroup, json!({ "memory": { "limit": -1 } })).expect("are lifted");
        assert_eq!(cgroup.read("memory", LIMIT).as_deref(), Some("-1"));
        assert_eq!(cgroup.read("memory", WITH_SWAP).as_deref(), Some("-1"));
    }

    #[test]
    fn swap_that_is_not_counted_is_only_refused_where_some_was_meant() {
        let (host, cgroup) = host();
        fs::remove_file(host.path().join("memory/pods/c1").join(WITH_SWAP)).expect("removed");
        set(&cgroup, json!({ "memory": { "limit": 2000, "swap": 2000 } })).expect("no swap");
        let error = set(&cgroup, json!({ "memory": { "limit": 3000, "swap": 4000 } }));
        assert!(error.expect_err("some").to_string().contains("does not count swap"));
        assert_eq!(cgroup.read("memory", LIMIT).as_deref(), Some("2000"));
    }

    #[test]
    fn a_limit_that_the_kernel_does_not_have_is_named() {
        let (_host, cgroup) = host();
        let resources = json!({ "hugepageLimits": [{ "pageSize": "1GB", "limit": 1 }] });
        let error = set(&cgroup, resources).expect_err("no such pages").to_string();
        assert!(error.contains("hugetlb.1GB.limit_in_bytes"), "{error}");
        let error = set(&cgroup, json!({ "unified": { "memory.high": "1" } })).expect_err("v2's");
        assert!(error.to_string().contains("memory.high"), "{error}");
    }
}
