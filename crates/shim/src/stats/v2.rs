//! Metrics of v2 (kernel, Documentation/admin-guide/cgroup-v2.rst): times in microseconds, sizes in bytes.

use containerd_shim::protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats,
    PidsStat,
};
use containerd_shim::protos::protobuf::MessageField;
use sandbox::cgroup::Cgroup;

use super::files::{Device, Files};

pub fn metrics(cgroup: &Cgroup) -> Metrics {
    // v2 has one hierarchy.
    let files = Files { cgroup, controller: "" };
    let pids = PidsStat {
        current: files.number("pids.current"),
        limit: files.number("pids.max"),
        ..Default::default()
    };
    Metrics {
        pids: Some(pids).into(),
        cpu: Some(cpu(files)).into(),
        memory: Some(memory(files)).into(),
        io: Some(io(files)).into(),
        hugetlb: huge_pages(files),
        memory_events: Some(memory_events(files)).into(),
        ..Default::default()
    }
}

fn cpu(files: Files<'_>) -> CPUStat {
    let stat = files.table("cpu.stat");
    CPUStat {
        usage_usec: stat.get("usage_usec"),
        user_usec: stat.get("user_usec"),
        system_usec: stat.get("system_usec"),
        nr_periods: stat.get("nr_periods"),
        nr_throttled: stat.get("nr_throttled"),
        throttled_usec: stat.get("throttled_usec"),
        nr_bursts: stat.get("nr_bursts"),
        burst_usec: stat.get("burst_usec"),
        psi: pressure(files, "cpu.pressure"),
        ..Default::default()
    }
}

/// Memory counters. kubelet's working set is the usage without `inactive_file`.
fn memory(files: Files<'_>) -> MemoryStat {
    let stat = files.table("memory.stat");
    // Since Linux 5.9 anonymous memory and files have separate counters.
    let both = |name: &str| {
        let apart = stat.get(&format!("{name}_anon")) + stat.get(&format!("{name}_file"));
        stat.get(name) + apart
    };
    MemoryStat {
        usage: files.number("memory.current"),
        usage_limit: files.number("memory.max"),
        max_usage: files.number("memory.peak"),
        swap_usage: files.number("memory.swap.current"),
        swap_limit: files.number("memory.swap.max"),
        swap_max_usage: files.number("memory.swap.peak"),
        psi: pressure(files, "memory.pressure"),
        workingset_refault: both("workingset_refault"),
        workingset_activate: both("workingset_activate"),
        anon: stat.get("anon"),
        file: stat.get("file"),
        kernel_stack: stat.get("kernel_stack"),
        slab: stat.get("slab"),
        sock: stat.get("sock"),
        shmem: stat.get("shmem"),
        file_mapped: stat.get("file_mapped"),
        file_dirty: stat.get("file_dirty"),
        file_writeback: stat.get("file_writeback"),
        anon_thp: stat.get("anon_thp"),
        inactive_anon: stat.get("inactive_anon"),
        active_anon: stat.get("active_anon"),
        inactive_file: stat.get("inactive_file"),
        active_file: stat.get("active_file"),
        unevictable: stat.get("unevictable"),
        slab_reclaimable: stat.get("slab_reclaimable"),
        slab_unreclaimable: stat.get("slab_unreclaimable"),
        pgfault: stat.get("pgfault"),
        pgmajfault: stat.get("pgmajfault"),
        workingset_nodereclaim: stat.get("workingset_nodereclaim"),
        pgrefill: stat.get("pgrefill"),
        pgscan: stat.get("pgscan"),
        pgsteal: stat.get("pgsteal"),
        pgactivate: stat.get("pgactivate"),
        pgdeactivate: stat.get("pgdeactivate"),
        pglazyfree: stat.get("pglazyfree"),
        pglazyfreed: stat.get("pglazyfreed"),
        thp_fault_alloc: stat.get("thp_fault_alloc"),
        thp_collapse_alloc: stat.get("thp_collapse_alloc"),
        ..Default::default()
    }
}

fn memory_events(files: Files<'_>) -> MemoryEvents {
    let events = files.table("memory.events");
    MemoryEvents {
        low: events.get("low"),
        high: events.get("high"),
        max: events.get("max"),
        oom: events.get("oom"),
        oom_kill: events.get("oom_kill"),
        oom_group_kill: events.get("oom_group_kill"),
        ..Default::default()
    }
}

fn io(files: Files<'_>) -> IOStat {
    let entry = |Device { major, minor, rest }: Device| {
        let numbers: Vec<_> = rest.split(' ').filter_map(|pair| pair.split_once('=')).collect();
        let get = |name: &str| {
            let found = numbers.iter().find(|(key, _)| *key == name);
            found.and_then(|(_, number)| number.parse().ok()).unwrap_or_default()
        };
        IOEntry {
            major,
            minor,
            rbytes: get("rbytes"),
            wbytes: get("wbytes"),
            rios: get("rios"),
            wios: get("wios"),
            ..Default::default()
        }
    };
    IOStat {
        usage: files.devices("io.stat").into_iter().map(entry).collect(),
        psi: pressure(files, "io.pressure"),
        ..Default::default()
    }
}

/// Parses `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and `full` likewise; `None` if the kernel does not count it (kernel,
/// accounting/psi.rst).
fn pressure(files: Files<'_>, file: &str) -> MessageField<PSIStats> {
    let text = files.text(file);
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let get = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
        let average = |key| get(key).and_then(|number| number.parse().ok()).unwrap_or_default();
        Some(PSIData {
            avg10: average("avg10="),
            avg60: average("avg60="),
            avg300: average("avg300="),
            total: get("total=").and_then(|number| number.parse().ok()).unwrap_or_default(),
            ..Default::default()
        })
    };
    let (some, full) = (line("some "), line("full "));
    if some.is_none() && full.is_none() {
        return MessageField::none();
    }
    Some(PSIStats { some: some.into(), full: full.into(), ..Default::default() }).into()
}

fn huge_pages(files: Files<'_>) -> Vec<HugeTlbStat> {
    let stat = |pagesize: String| HugeTlbStat {
        current: files.number(&format!("hugetlb.{pagesize}.current")),
        max: files.number(&format!("hugetlb.{pagesize}.max")),
        failcnt: files.table(&format!("hugetlb.{pagesize}.events")).get("max"),
        pagesize,
        ..Default::default()
    };
    files.page_sizes().into_iter().map(stat).collect()
}
