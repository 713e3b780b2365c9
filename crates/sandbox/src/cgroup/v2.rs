//! Limits of v2 (kernel, cgroup-v2.rst). The OCI spec has those of v1, which are converted as runc does.

use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::Cgroup;
use super::limits::{UNLIMITED, cpuset, given, huge_pages, limit, or_max, pids};
use crate::Error;

pub const LIMIT: &str = "memory.max";
const SWAP: &str = "memory.swap.max";
const USAGE: &str = "memory.current";
const WEIGHT: &str = "cpu.weight";
const BANDWIDTH: &str = "cpu.max";

/// Ranges of `cpu.shares` and `cpu.weight`.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
const WEIGHTS: std::ops::RangeInclusive<u64> = 1..=10_000;

pub fn update(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), Error> {
    resources.memory().as_ref().map_or(Ok(()), |it| memory(cgroup, it))?;
    resources.cpu().as_ref().map_or(Ok(()), |it| cpu(cgroup, it))?;
    cpuset(cgroup, resources)?;
    pids(cgroup, resources.pids().as_ref())?;
    huge_pages(cgroup, resources.hugepage_limits().as_deref(), "max")?;
    as_they_are(cgroup, resources)
}

fn memory(cgroup: &Cgroup, memory: &LinuxMemory) -> Result<(), Error> {
    let wanted = given(memory.limit());
    if memory.check_before_update() == Some(true) {
        wanted.map_or(Ok(()), |wanted| above_usage(cgroup, wanted))?;
    }
    if let Some(swap) = swap_alone(wanted, given(memory.swap()))? {
        // A kernel without swap needs no limit of none.
        let nothing_to_do = swap <= 0 && !cgroup.has("memory", SWAP);
        if !nothing_to_do {
            cgroup.set("memory", SWAP, or_max(swap))?;
        }
    }
    wanted.map_or(Ok(()), |wanted| cgroup.set("memory", LIMIT, or_max(wanted)))?;
    let reservation = given(memory.reservation());
    reservation.map_or(Ok(()), |bytes| cgroup.set("memory", "memory.low", or_max(bytes)))
}

/// Refuses a limit below the usage. The kernel would not refuse it, but kill processes until the limit is kept.
fn above_usage(cgroup: &Cgroup, wanted: i64) -> Result<(), Error> {
    let usage = cgroup.number("memory", USAGE);
    if u64::try_from(wanted).is_ok_and(|wanted| wanted < usage) {
        return Err(limit(LIMIT, wanted, format!("the container uses {usage} bytes now")));
    }
    Ok(())
}

/// Limit of swap, from the limit of memory and swap together.
pub(super) fn swap_alone(memory: Option<i64>, together: Option<i64>) -> Result<Option<i64>, Error> {
    match (memory, together) {
        (Some(UNLIMITED), None) | (_, Some(UNLIMITED)) => Ok(Some(UNLIMITED)),
        (_, None) => Ok(None),
        (Some(memory), Some(together)) if memory > 0 && together >= memory => {
            Ok(Some(together - memory))
        }
        (_, Some(together)) => {
            let reason = "it is that of memory and swap together, and needs one of memory that is not above it";
            Err(limit("swap", together, reason))
        }
    }
}

fn cpu(cgroup: &Cgroup, cpu: &LinuxCpu) -> Result<(), Error> {
    given(cpu.shares()).map_or(Ok(()), |shares| cgroup.set("cpu", WEIGHT, weight(shares)))?;
    let present = || cgroup.read("cpu", BANDWIDTH).unwrap_or_default();
    let bandwidth = match (given(cpu.quota()), given(cpu.period())) {
        (None, None) => None,
        // If no period is given, the kernel keeps the present one.
        (Some(quota), None) => Some(or_max(quota)),
        (Some(quota), Some(period)) => Some(format!("{} {period}", or_max(quota))),
        (None, Some(period)) => {
            Some(format!("{} {period}", present().split_whitespace().next().unwrap_or("max")))
        }
    };
    bandwidth.map_or(Ok(()), |bandwidth| cgroup.set("cpu", BANDWIDTH, bandwidth))?;
    cpu.burst().map_or(Ok(()), |burst| cgroup.set("cpu", "cpu.max.burst", burst))?;
    cpu.idle().map_or(Ok(()), |idle| cgroup.set("cpu", "cpu.idle", idle))
}

/// Converts shares to a weight by runc's quadratic fit (since 1.3.2) through the ends and defaults of both ranges: 2 to 1, 1024
/// to 100, 262144 to 10000.
pub(super) fn weight(shares: u64) -> u64 {
    if shares <= *SHARES.start() {
        return *WEIGHTS.start();
    }
    let log = (shares.min(*SHARES.end()) as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u64).clamp(*WEIGHTS.start(), *WEIGHTS.end())
}

/// Sets files of v2 that the spec names (OCI runtime spec, "Unified"), such as kubelet's `memory.high`.
fn as_they_are(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), Error> {
    let mut files: Vec<_> = resources.unified().iter().flatten().collect();
    files.sort();
    files.into_iter().try_for_each(|(file, value)| {
        if file.contains('/') || !file.contains('.') {
            return Err(limit(file, value, "it names no file of a cgroup"));
        }
        cgroup.set("", file, value)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;

    fn host() -> (tempfile::TempDir, Cgroup) {
        let host = tempfile::tempdir().expect("temporary directory");
        let directory = host.path().join("pods/c1");
        fs::create_dir_all(&directory).expect("a cgroup");
        fs::write(host.path().join("cgroup.controllers"), "cpu memory pids").expect("v2");
        let files = [
            (LIMIT, "max"),
            (SWAP, "max"),
            (USAGE, "3000"),
            ("memory.low", "0"),
            ("memory.high", "max"),
            (WEIGHT, "100"),
            (BANDWIDTH, "20000 100000"),
            ("cpuset.cpus", ""),
            ("pids.max", "max"),
        ];
        for (file, text) in files {
            fs::write(directory.join(file), text).expect("a file of it");
        }
        let cgroup = Cgroup::in_hierarchies(host.path(), Some(Path::new("/pods/c1")), "c1", false);
        (host, cgroup.expect("a cgroup"))
    }

    fn set(cgroup: &Cgroup, resources: Value) -> Result<(), Error> {
        cgroup.update(&serde_json::from_value(resources).expect("resources"))
    }

    fn is(cgroup: &Cgroup, file: &str, text: &str) {
        assert_eq!(cgroup.read("", file).as_deref(), Some(text), "{file}");
    }

    #[test]
    fn each_limit_is_written_as_v2_has_it() {
        let (_host, cgroup) = host();
        let resources = json!({
            "memory": { "limit": 5000, "swap": 7000, "reservation": 400 },
            "cpu": { "shares": 1024, "quota": 50000, "period": 200000, "cpus": "0-1" },
            "pids": { "limit": 10 },
            "unified": { "memory.high": "4000" }
        });
        set(&cgroup, resources).expect("are set");
        let expected = [
            (LIMIT, "5000"),
            (SWAP, "2000"),
            ("memory.low", "400"),
            (WEIGHT, "100"),
            (BANDWIDTH, "50000 200000"),
            ("cpuset.cpus", "0-1"),
            ("pids.max", "10"),
            ("memory.high", "4000"),
        ];
        for (file, text) in expected {
            is(&cgroup, file, text);
        }
    }

    #[test]
    fn a_period_alone_keeps_the_quota() {
        let (_host, cgroup) = host();
        set(&cgroup, json!({ "cpu": { "period": 50000 } })).expect("is set");
        is(&cgroup, BANDWIDTH, "20000 50000");
        set(&cgroup, json!({ "cpu": { "quota": -1 } })).expect("is lifted");
        is(&cgroup, BANDWIDTH, "max");
    }

    #[test]
    fn shares_and_weights_meet_at_their_ends_and_defaults() {
        let weights = [0, 2, 1024, 262_144, u64::MAX].map(weight);
        assert_eq!(weights, [1, 1, 100, 10_000, 10_000]);
    }

    #[test]
    fn memory_and_swap_together_become_swap_alone() {
        let alone = |memory, together| swap_alone(memory, together).ok();
        assert_eq!(alone(Some(10), Some(10)), Some(Some(0)));
        assert_eq!(alone(Some(-1), None), Some(Some(-1)));
        assert_eq!(alone(Some(10), None), Some(None));
        assert_eq!(alone(None, Some(10)), None);
        assert_eq!(alone(Some(10), Some(5)), None);
    }

    #[test]
    fn swap_that_does_not_exist_need_not_be_forbidden() {
        let (host, cgroup) = host();
        fs::remove_file(host.path().join("pods/c1").join(SWAP)).expect("removed");
        set(&cgroup, json!({ "memory": { "limit": 5000, "swap": 5000 } })).expect("is set");
        assert!(set(&cgroup, json!({ "memory": { "limit": 5000, "swap": 6000 } })).is_err());
    }

    #[test]
    fn a_limit_below_what_is_used_is_refused_where_that_is_asked_for() {
        let (_host, cgroup) = host();
        let low = json!({ "memory": { "limit": 2000, "checkBeforeUpdate": true } });
        assert!(set(&cgroup, low).expect_err("too low").to_string().contains("3000"));
        is(&cgroup, LIMIT, "max");
        for file in ["../other", "a/b.c", "cgroup"] {
            assert!(set(&cgroup, json!({ "unified": { file: "1" } })).is_err(), "{file}");
        }
    }
}
