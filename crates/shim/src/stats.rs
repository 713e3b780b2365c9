//! Stats: the cgroup's counters in the message that the host's cgroup version calls for.
//!
//! containerd and kubelet tell the two apart by type: `io.containerd.cgroups.v1.Metrics` where the memory
//! controller is a v1 hierarchy, `io.containerd.cgroups.v2.Metrics` on a unified host. A counter that a kernel
//! does not have is 0, and takes none of the others along.

use std::collections::HashMap;

use containerd_shim::protos::cgroups::metrics as v1;
use containerd_shim::protos::cgroups_v2::metrics as v2;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::util::convert_to_any;
use sandbox::cgroup::Cgroup;

use crate::errors::Error;

/// `cpuacct.stat` counts in ticks of 10 ms, whatever the kernel's own (USER_HZ, time(7)).
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

/// Reads and packs the counters of a container.
pub fn collect(cgroup: &Cgroup) -> Result<Any, Error> {
    let packed = match cgroup.is_unified() {
        true => convert_to_any(Box::new(unified(cgroup))),
        false => convert_to_any(Box::new(legacy(cgroup))),
    };
    packed
        .map_err(|error| Error::io("encode the metrics")(std::io::Error::other(error.to_string())))
}

/// Times in nanoseconds, sizes in bytes (kernel, Documentation/admin-guide/cgroup-v1).
fn legacy(cgroup: &Cgroup) -> v1::Metrics {
    let times = Table::read(cgroup, "cpuacct", "cpuacct.stat");
    let usage = v1::CPUUsage {
        total: number(cgroup, "cpuacct", "cpuacct.usage"),
        kernel: times.get("system") * NANOSECONDS_PER_TICK,
        user: times.get("user") * NANOSECONDS_PER_TICK,
        per_cpu: numbers(cgroup, "cpuacct", "cpuacct.usage_percpu"),
        ..Default::default()
    };
    let cpu = Table::read(cgroup, "cpu", "cpu.stat");
    let throttling = v1::Throttle {
        periods: cpu.get("nr_periods"),
        throttled_periods: cpu.get("nr_throttled"),
        throttled_time: cpu.get("throttled_time"),
        ..Default::default()
    };
    let entry = v1::MemoryEntry {
        usage: number(cgroup, "memory", "memory.usage_in_bytes"),
        max: number(cgroup, "memory", "memory.max_usage_in_bytes"),
        limit: number(cgroup, "memory", "memory.limit_in_bytes"),
        failcnt: number(cgroup, "memory", "memory.failcnt"),
        ..Default::default()
    };
    let memory = Table::read(cgroup, "memory", "memory.stat");
    v1::Metrics {
        cpu: Some(v1::CPUStat {
            usage: Some(usage).into(),
            throttling: Some(throttling).into(),
            ..Default::default()
        })
        .into(),
        memory: Some(v1::MemoryStat {
            usage: Some(entry).into(),
            cache: memory.get("cache"),
            rss: memory.get("rss"),
            total_rss: memory.get("total_rss"),
            total_cache: memory.get("total_cache"),
            inactive_file: memory.get("inactive_file"),
            total_inactive_file: memory.get("total_inactive_file"),
            total_active_file: memory.get("total_active_file"),
            pg_fault: memory.get("pgfault"),
            pg_maj_fault: memory.get("pgmajfault"),
            total_pg_fault: memory.get("total_pgfault"),
            total_pg_maj_fault: memory.get("total_pgmajfault"),
            ..Default::default()
        })
        .into(),
        pids: Some(v1::PidsStat {
            current: number(cgroup, "pids", "pids.current"),
            limit: number(cgroup, "pids", "pids.max"),
            ..Default::default()
        })
        .into(),
        ..Default::default()
    }
}

/// Times in microseconds, sizes in bytes (kernel, Documentation/admin-guide/cgroup-v2).
fn unified(cgroup: &Cgroup) -> v2::Metrics {
    let cpu = Table::read(cgroup, "cpu", "cpu.stat");
    let memory = Table::read(cgroup, "memory", "memory.stat");
    v2::Metrics {
        cpu: Some(v2::CPUStat {
            usage_usec: cpu.get("usage_usec"),
            user_usec: cpu.get("user_usec"),
            system_usec: cpu.get("system_usec"),
            nr_periods: cpu.get("nr_periods"),
            nr_throttled: cpu.get("nr_throttled"),
            throttled_usec: cpu.get("throttled_usec"),
            ..Default::default()
        })
        .into(),
        memory: Some(v2::MemoryStat {
            usage: number(cgroup, "memory", "memory.current"),
            usage_limit: number(cgroup, "memory", "memory.max"),
            anon: memory.get("anon"),
            file: memory.get("file"),
            inactive_file: memory.get("inactive_file"),
            active_file: memory.get("active_file"),
            pgfault: memory.get("pgfault"),
            pgmajfault: memory.get("pgmajfault"),
            ..Default::default()
        })
        .into(),
        pids: Some(v2::PidsStat {
            current: number(cgroup, "pids", "pids.current"),
            limit: number(cgroup, "pids", "pids.max"),
            ..Default::default()
        })
        .into(),
        ..Default::default()
    }
}

/// Lines of a name and a number.
struct Table(HashMap<String, u64>);

impl Table {
    fn read(cgroup: &Cgroup, controller: &str, file: &str) -> Table {
        let text = cgroup.read(controller, file).unwrap_or_default();
        let line = |line: &str| {
            let (name, number) = line.split_once(' ')?;
            Some((name.to_owned(), number.parse().ok()?))
        };
        Table(text.lines().filter_map(line).collect())
    }

    fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// A file of numbers; `max`, for no limit, is the largest.
fn numbers(cgroup: &Cgroup, controller: &str, file: &str) -> Vec<u64> {
    let text = cgroup.read(controller, file).unwrap_or_default();
    let number = |word: &str| if word == "max" { Some(u64::MAX) } else { word.parse().ok() };
    text.split_whitespace().filter_map(number).collect()
}

fn number(cgroup: &Cgroup, controller: &str, file: &str) -> u64 {
    numbers(cgroup, controller, file).first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim::protos::protobuf::Message;
    use std::fs;
    use std::path::Path;

    /// A cgroup whose files are given as controller (v1's folder), name and text.
    fn recorded(unified: bool, files: &[(&str, &str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let host = tempfile::tempdir().expect("temporary folder");
        for (controller, name, text) in files {
            let hierarchy = if unified { "." } else { controller };
            let folder = host.path().join(hierarchy).join("pods/c1");
            fs::create_dir_all(&folder).expect("a cgroup");
            fs::write(folder.join(name), text).expect("a file of it");
        }
        if unified {
            fs::write(host.path().join("cgroup.controllers"), "cpu memory pids").expect("v2");
        }
        let path = Some(Path::new("/pods/c1"));
        let cgroup = Cgroup::in_hierarchies(host.path(), path, "c1", false).expect("a cgroup");
        (host, cgroup)
    }

    #[test]
    fn a_unified_host_is_told_in_its_own_message_whatever_files_it_lacks() {
        let (_host, cgroup) = recorded(
            true,
            &[
                (
                    "",
                    "cpu.stat",
                    "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\nnr_periods 0\n",
                ),
                ("", "memory.current", "4096000\n"),
                ("", "memory.max", "max\n"),
                ("", "memory.stat", "anon 1000\nfile 2000\ninactive_file 300\npgfault 7\n"),
                ("", "pids.current", "3\n"),
            ],
        );
        let any = collect(&cgroup).expect("metrics");
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = v2::Metrics::parse_from_bytes(&any.value).expect("decodes");
        assert_eq!(metrics.cpu.usage_usec, 1500);
        assert_eq!((metrics.memory.usage, metrics.memory.usage_limit), (4_096_000, u64::MAX));
        assert_eq!(metrics.memory.inactive_file, 300);
        assert_eq!((metrics.pids.current, metrics.pids.limit), (3, 0));
    }

    #[test]
    fn a_legacy_host_is_told_in_nanoseconds() {
        let (_host, cgroup) = recorded(
            false,
            &[
                ("cpuacct", "cpuacct.usage", "123456789\n"),
                ("cpuacct", "cpuacct.usage_percpu", "100000000 23456789 \n"),
                ("cpuacct", "cpuacct.stat", "user 10\nsystem 2\n"),
                ("memory", "memory.usage_in_bytes", "8192\n"),
                ("memory", "memory.stat", "rss 4096\ntotal_inactive_file 64\n"),
                ("pids", "pids.current", "1\n"),
            ],
        );
        let any = collect(&cgroup).expect("metrics");
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let metrics = v1::Metrics::parse_from_bytes(&any.value).expect("decodes");
        assert_eq!(metrics.cpu.usage.total, 123_456_789);
        assert_eq!(metrics.cpu.usage.per_cpu, [100_000_000, 23_456_789]);
        assert_eq!((metrics.cpu.usage.user, metrics.cpu.usage.kernel), (100_000_000, 20_000_000));
        assert_eq!(metrics.memory.usage.usage, 8192);
        assert_eq!(metrics.memory.total_inactive_file, 64);
        assert_eq!(metrics.pids.current, 1);
    }
}
