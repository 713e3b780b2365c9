//! Stats: the cgroup's counters in the message that the host's cgroup version calls for.
//!
//! containerd and kubelet tell the two apart by type: `io.containerd.cgroups.v1.Metrics` where the memory
//! controller is a v1 hierarchy, `io.containerd.cgroups.v2.Metrics` on a unified host.

use containerd_shim::protos::cgroups::metrics as v1;
use containerd_shim::protos::cgroups_v2::metrics as v2;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::util::convert_to_any;
use sandbox::cgroup::{self, Cgroup, Stats};

use crate::errors::Error;

/// Reads and packs the counters of a container.
pub fn collect(cgroup: &Cgroup) -> Result<Any, Error> {
    let stats = cgroup.stats()?;
    let packed = if cgroup::is_unified()? {
        convert_to_any(Box::new(unified(&stats)))
    } else {
        convert_to_any(Box::new(legacy(&stats)))
    };
    packed
        .map_err(|error| Error::io("encode the metrics")(std::io::Error::other(error.to_string())))
}

/// Times in nanoseconds, sizes in bytes.
fn legacy(stats: &Stats) -> v1::Metrics {
    let usage = v1::CPUUsage {
        total: stats.cpu.usage.usage_total,
        kernel: stats.cpu.usage.usage_kernel,
        user: stats.cpu.usage.usage_user,
        per_cpu: stats.cpu.usage.per_core_usage_total.clone(),
        ..Default::default()
    };
    let throttling = v1::Throttle {
        periods: stats.cpu.throttling.periods,
        throttled_periods: stats.cpu.throttling.throttled_periods,
        throttled_time: stats.cpu.throttling.throttled_time,
        ..Default::default()
    };
    let memory = &stats.memory.memory;
    let entry = v1::MemoryEntry {
        usage: memory.usage,
        max: memory.max_usage,
        limit: memory.limit,
        failcnt: memory.fail_count,
        ..Default::default()
    };
    let counter = |name: &str| stats.memory.stats.get(name).copied().unwrap_or_default();
    v1::Metrics {
        cpu: Some(v1::CPUStat {
            usage: Some(usage).into(),
            throttling: Some(throttling).into(),
            ..Default::default()
        })
        .into(),
        memory: Some(v1::MemoryStat {
            usage: Some(entry).into(),
            cache: counter("cache"),
            rss: counter("rss"),
            total_rss: counter("total_rss"),
            total_cache: counter("total_cache"),
            inactive_file: counter("inactive_file"),
            total_inactive_file: counter("total_inactive_file"),
            total_active_file: counter("total_active_file"),
            pg_fault: counter("pgfault"),
            pg_maj_fault: counter("pgmajfault"),
            total_pg_fault: counter("total_pgfault"),
            total_pg_maj_fault: counter("total_pgmajfault"),
            ..Default::default()
        })
        .into(),
        pids: Some(v1::PidsStat {
            current: stats.pids.current,
            limit: stats.pids.limit,
            ..Default::default()
        })
        .into(),
        ..Default::default()
    }
}

/// Times in microseconds, sizes in bytes.
fn unified(stats: &Stats) -> v2::Metrics {
    let counter = |name: &str| stats.memory.stats.get(name).copied().unwrap_or_default();
    v2::Metrics {
        cpu: Some(v2::CPUStat {
            usage_usec: stats.cpu.usage.usage_total,
            user_usec: stats.cpu.usage.usage_user,
            system_usec: stats.cpu.usage.usage_kernel,
            nr_periods: stats.cpu.throttling.periods,
            nr_throttled: stats.cpu.throttling.throttled_periods,
            throttled_usec: stats.cpu.throttling.throttled_time,
            ..Default::default()
        })
        .into(),
        memory: Some(v2::MemoryStat {
            usage: stats.memory.memory.usage,
            usage_limit: stats.memory.memory.limit,
            anon: counter("anon"),
            file: counter("file"),
            inactive_file: counter("inactive_file"),
            active_file: counter("active_file"),
            pgfault: counter("pgfault"),
            pgmajfault: counter("pgmajfault"),
            ..Default::default()
        })
        .into(),
        pids: Some(v2::PidsStat {
            current: stats.pids.current,
            limit: stats.pids.limit,
            ..Default::default()
        })
        .into(),
        ..Default::default()
    }
}
