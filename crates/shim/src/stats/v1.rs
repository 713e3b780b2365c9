//! Metrics of v1 (kernel, Documentation/admin-guide/cgroup-v1): times in nanoseconds, sizes in bytes.

use containerd_shim::protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryOomControl,
    MemoryStat, Metrics, PidsStat, Throttle,
};
use sandbox::cgroup::Cgroup;

use super::files::Files;

/// Length of a tick of `cpuacct.stat`, which does not depend on the kernel's own ticks (USER_HZ, time(7)).
const NANOSECONDS_PER_TICK: u64 = 10_000_000;

pub fn metrics(cgroup: &Cgroup) -> Metrics {
    let of = |controller| Files { cgroup, controller };
    let pids = PidsStat {
        current: of("pids").number("pids.current"),
        limit: of("pids").number("pids.max"),
        ..Default::default()
    };
    Metrics {
        hugetlb: huge_pages(of("hugetlb")),
        pids: Some(pids).into(),
        cpu: Some(cpu(of("cpu"), of("cpuacct"))).into(),
        memory: Some(memory(of("memory"))).into(),
        blkio: Some(block_io(of("blkio"))).into(),
        memory_oom_control: Some(oom_control(of("memory"))).into(),
        ..Default::default()
    }
}

fn cpu(cpu: Files<'_>, accounts: Files<'_>) -> CPUStat {
    let times = accounts.table("cpuacct.stat");
    let usage = CPUUsage {
        total: accounts.number("cpuacct.usage"),
        kernel: times.get("system") * NANOSECONDS_PER_TICK,
        user: times.get("user") * NANOSECONDS_PER_TICK,
        per_cpu: accounts.numbers("cpuacct.usage_percpu"),
        ..Default::default()
    };
    let stat = cpu.table("cpu.stat");
    let throttling = Throttle {
        periods: stat.get("nr_periods"),
        throttled_periods: stat.get("nr_throttled"),
        throttled_time: stat.get("throttled_time"),
        ..Default::default()
    };
    CPUStat { usage: Some(usage).into(), throttling: Some(throttling).into(), ..Default::default() }
}

/// Memory counters. kubelet's working set is the usage without `total_inactive_file`.
fn memory(files: Files<'_>) -> MemoryStat {
    let stat = files.table("memory.stat");
    let entry = |prefix: &str| {
        let number = |name: &str| files.number(&format!("{prefix}.{name}"));
        let entry = MemoryEntry {
            limit: number("limit_in_bytes"),
            usage: number("usage_in_bytes"),
            max: number("max_usage_in_bytes"),
            failcnt: number("failcnt"),
            ..Default::default()
        };
        Some(entry).into()
    };
    MemoryStat {
        usage: entry("memory"),
        swap: entry("memory.memsw"),
        kernel: entry("memory.kmem"),
        kernel_tcp: entry("memory.kmem.tcp"),
        hierarchical_memory_limit: stat.get("hierarchical_memory_limit"),
        hierarchical_swap_limit: stat.get("hierarchical_memsw_limit"),
        cache: stat.get("cache"),
        rss: stat.get("rss"),
        rss_huge: stat.get("rss_huge"),
        mapped_file: stat.get("mapped_file"),
        dirty: stat.get("dirty"),
        writeback: stat.get("writeback"),
        pg_pg_in: stat.get("pgpgin"),
        pg_pg_out: stat.get("pgpgout"),
        pg_fault: stat.get("pgfault"),
        pg_maj_fault: stat.get("pgmajfault"),
        inactive_anon: stat.get("inactive_anon"),
        active_anon: stat.get("active_anon"),
        inactive_file: stat.get("inactive_file"),
        active_file: stat.get("active_file"),
        unevictable: stat.get("unevictable"),
        total_cache: stat.get("total_cache"),
        total_rss: stat.get("total_rss"),
        total_rss_huge: stat.get("total_rss_huge"),
        total_mapped_file: stat.get("total_mapped_file"),
        total_dirty: stat.get("total_dirty"),
        total_writeback: stat.get("total_writeback"),
        total_pg_pg_in: stat.get("total_pgpgin"),
        total_pg_pg_out: stat.get("total_pgpgout"),
        total_pg_fault: stat.get("total_pgfault"),
        total_pg_maj_fault: stat.get("total_pgmajfault"),
        total_inactive_anon: stat.get("total_inactive_anon"),
        total_active_anon: stat.get("total_active_anon"),
        total_inactive_file: stat.get("total_inactive_file"),
        total_active_file: stat.get("total_active_file"),
        total_unevictable: stat.get("total_unevictable"),
        ..Default::default()
    }
}

fn oom_control(files: Files<'_>) -> MemoryOomControl {
    let control = files.table("memory.oom_control");
    MemoryOomControl {
        oom_kill_disable: control.get("oom_kill_disable"),
        under_oom: control.get("under_oom"),
        oom_kill: control.get("oom_kill"),
        ..Default::default()
    }
}

fn block_io(files: Files<'_>) -> BlkIOStat {
    let entries = |what: &str| {
        // Before Linux 5.0 the scheduler (CFQ) counts them, since then the throttling.
        let of_scheduler = entries(files, &format!("blkio.{what}_recursive"));
        let recursive = || entries(files, &format!("blkio.throttle.{what}_recursive"));
        let own = || entries(files, &format!("blkio.throttle.{what}"));
        [of_scheduler, recursive(), own()].into_iter().find(|it| !it.is_empty()).unwrap_or_default()
    };
    BlkIOStat {
        io_service_bytes_recursive: entries("io_service_bytes"),
        io_serviced_recursive: entries("io_serviced"),
        ..Default::default()
    }
}

fn entries(files: Files<'_>, file: &str) -> Vec<BlkIOEntry> {
    let entry = |device: super::files::Device| {
        let (op, value) = device.rest.split_once(' ')?;
        Some(BlkIOEntry {
            op: op.to_owned(),
            major: device.major,
            minor: device.minor,
            value: value.trim().parse().ok()?,
            ..Default::default()
        })
    };
    files.devices(file).into_iter().filter_map(entry).collect()
}

fn huge_pages(files: Files<'_>) -> Vec<HugetlbStat> {
    let stat = |pagesize: String| {
        let number = |what: &str| files.number(&format!("hugetlb.{pagesize}.{what}"));
        HugetlbStat {
            usage: number("usage_in_bytes"),
            max: number("max_usage_in_bytes"),
            failcnt: number("failcnt"),
            pagesize,
            ..Default::default()
        }
    };
    files.page_sizes().into_iter().map(stat).collect()
}
