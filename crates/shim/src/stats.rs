//! Stats: counters of the cgroup, in the message of the host's cgroup version.
//!
//! containerd and kubelet distinguish the two by type: `io.containerd.cgroups.v1.Metrics` for v1, and
//! `io.containerd.cgroups.v2.Metrics` for v2. A counter that the kernel does not have is 0. `v1` and `v2` fill the messages, `files`
//! reads.

use containerd_shim::protos::protobuf::well_known_types::any::Any;
use sandbox::cgroup::Cgroup;

use crate::errors::Error;
use crate::packed::pack;

mod files;
mod v1;
mod v2;

/// Protobuf package of the message for v2.
pub const V2: &str = "io.containerd.cgroups.v2";

/// Protobuf package of the message for v1.
pub const V1: &str = "io.containerd.cgroups.v1";

/// Reads and packs the counters of a container.
pub fn collect(cgroup: &Cgroup) -> Result<Any, Error> {
    let packed = match cgroup.is_v2() {
        true => pack(V2, &v2::metrics(cgroup)),
        false => pack(V1, &v1::metrics(cgroup)),
    };
    packed
        .map_err(|error| Error::io("encode the metrics")(std::io::Error::other(error.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim::protos::cgroups::metrics as metrics_v1;
    use containerd_shim::protos::cgroups_v2::metrics as metrics_v2;
    use containerd_shim::protos::protobuf::Message;
    use std::fs;
    use std::path::Path;

    /// Makes a cgroup whose files are given as controller (v1's directory), name and text.
    fn recorded(is_v2: bool, files: &[(&str, &str, &str)]) -> (tempfile::TempDir, Cgroup) {
        let host = tempfile::tempdir().expect("temporary directory");
        for (controller, name, text) in files {
            let hierarchy = if is_v2 { "." } else { controller };
            let directory = host.path().join(hierarchy).join("pods/c1");
            fs::create_dir_all(&directory).expect("a cgroup");
            fs::write(directory.join(name), text).expect("a file of it");
        }
        if is_v2 {
            fs::write(host.path().join("cgroup.controllers"), "cpu memory pids").expect("v2");
        }
        let path = Some(Path::new("/pods/c1"));
        let cgroup = Cgroup::in_hierarchies(host.path(), path, "c1", false).expect("a cgroup");
        (host, cgroup)
    }

    #[test]
    fn a_host_with_v2_has_its_own_message_even_if_it_lacks_files() {
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
                ("", "memory.peak", "5000000\n"),
                ("", "memory.swap.max", "0\n"),
                ("", "memory.events", "low 0\nhigh 4\nmax 2\noom 1\noom_kill 1\n"),
                ("", "memory.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=77\n"),
                ("", "io.stat", "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 \n"),
                ("", "hugetlb.2MB.current", "0\n"),
                ("", "hugetlb.2MB.max", "max\n"),
                ("", "hugetlb.2MB.rsvd.current", "0\n"),
            ],
        );
        let any = collect(&cgroup).expect("metrics");
        assert_eq!(any.type_url, "io.containerd.cgroups.v2.Metrics");
        let metrics = metrics_v2::Metrics::parse_from_bytes(&any.value).expect("decodes");
        assert_eq!(metrics.cpu.usage_usec, 1500);
        assert_eq!((metrics.memory.usage, metrics.memory.usage_limit), (4_096_000, u64::MAX));
        assert_eq!(metrics.memory.inactive_file, 300);
        assert_eq!((metrics.pids.current, metrics.pids.limit), (3, 0));
        assert_eq!((metrics.memory.max_usage, metrics.memory.swap_limit), (5_000_000, 0));
        assert_eq!((metrics.memory_events.high, metrics.memory_events.oom_kill), (4, 1));
        let some = &metrics.memory.psi.some;
        assert_eq!((some.avg10, some.total), (1.5, 77));
        assert!(metrics.cpu.psi.is_none(), "the kernel counts none");
        let disk = &metrics.io.usage[0];
        assert_eq!((disk.major, disk.rbytes, disk.wbytes, disk.wios), (8, 10, 20, 2));
        let sizes: Vec<_> = metrics.hugetlb.iter().map(|it| it.pagesize.as_str()).collect();
        assert_eq!(sizes, ["2MB"]);
    }

    #[test]
    fn a_host_with_v1_has_times_in_nanoseconds() {
        let (_host, cgroup) = recorded(
            false,
            &[
                ("cpuacct", "cpuacct.usage", "123456789\n"),
                ("cpuacct", "cpuacct.usage_percpu", "100000000 23456789 \n"),
                ("cpuacct", "cpuacct.stat", "user 10\nsystem 2\n"),
                ("memory", "memory.usage_in_bytes", "8192\n"),
                ("memory", "memory.stat", "rss 4096\ntotal_inactive_file 64\n"),
                ("pids", "pids.current", "1\n"),
                ("cpu", "cpu.stat", "nr_periods 9\nnr_throttled 3\nthrottled_time 42\n"),
                ("memory", "memory.memsw.limit_in_bytes", "65536\n"),
                ("memory", "memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
                (
                    "blkio",
                    "blkio.throttle.io_service_bytes_recursive",
                    "8:0 Read 512\n8:0 Total 512\nTotal 512\n",
                ),
            ],
        );
        let any = collect(&cgroup).expect("metrics");
        assert_eq!(any.type_url, "io.containerd.cgroups.v1.Metrics");
        let metrics = metrics_v1::Metrics::parse_from_bytes(&any.value).expect("decodes");
        assert_eq!(metrics.cpu.usage.total, 123_456_789);
        assert_eq!(metrics.cpu.usage.per_cpu, [100_000_000, 23_456_789]);
        assert_eq!((metrics.cpu.usage.user, metrics.cpu.usage.kernel), (100_000_000, 20_000_000));
        assert_eq!(metrics.memory.usage.usage, 8192);
        assert_eq!(metrics.memory.total_inactive_file, 64);
        assert_eq!(metrics.pids.current, 1);
        assert_eq!(
            (metrics.cpu.throttling.periods, metrics.cpu.throttling.throttled_time),
            (9, 42)
        );
        assert_eq!((metrics.memory.rss, metrics.memory.swap.limit), (4096, 65536));
        assert_eq!(metrics.memory_oom_control.oom_kill, 2);
        let read = &metrics.blkio.io_service_bytes_recursive[0];
        assert_eq!((read.op.as_str(), read.major, read.value), ("Read", 8, 512));
        assert_eq!(metrics.blkio.io_service_bytes_recursive.len(), 2);
    }
}
