//! Facts about a process: names and values, by which two processes of the same spec can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;

use anyhow::{Context, Result};
use nix::sys::stat::{major, minor};
use serde_json::Value;

use crate::isolation::places::Joined;
use crate::isolation::{files, keyring, mounts};
use crate::{cgroups, command};

/// Facts by their names.
pub type Facts = BTreeMap<String, String>;

/// What of a status (proc(5)) bounds a process.
const STATUS: [&str; 18] = [
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "SigBlk",
    "SigIgn",
    "Cpus_allowed_list",
    "Mems_allowed_list",
    "CoreDumping",
    "THP_enabled",
];

const NAMESPACES: [&str; 10] = [
    "cgroup",
    "ipc",
    "mnt",
    "net",
    "pid",
    "pid_for_children",
    "time",
    "time_for_children",
    "user",
    "uts",
];

/// Files of /proc that are a fact each.
const WHOLE: [&str; 9] = [
    "oom_score_adj",
    "uid_map",
    "gid_map",
    "setgroups",
    "personality",
    "coredump_filter",
    "timens_offsets",
    "loginuid",
    "attr/current",
];

/// Fields of `stat`, from the third on, by their place.
const STAT: [(&str, usize); 4] =
    [("priority", 15), ("nice", 16), ("real-time priority", 37), ("scheduling policy", 38)];

/// Files of cgroups v1 and v2 that bound what is in them.
const OF_CGROUP: [&str; 27] = [
    "blkio.throttle.read_bps_device",
    "blkio.weight",
    "cpu.cfs_period_us",
    "cpu.cfs_quota_us",
    "cpu.idle",
    "cpu.max",
    "cpu.rt_runtime_us",
    "cpu.shares",
    "cpu.weight",
    "cpuset.cpus",
    "cpuset.mems",
    "devices.list",
    "io.max",
    "io.weight",
    "memory.high",
    "memory.limit_in_bytes",
    "memory.low",
    "memory.max",
    "memory.memsw.limit_in_bytes",
    "memory.min",
    "memory.oom.group",
    "memory.oom_control",
    "memory.soft_limit_in_bytes",
    "memory.swap.max",
    "memory.swappiness",
    "pids.max",
    "freezer.state",
];

/// Takes down what the process of `config` has. `name` is what differs between two containers of the same spec: it is
/// taken out of every value.
pub fn of(pid: u32, config: &Value, joined: &Joined, name: &str) -> Result<Facts> {
    let mut facts = Facts::new();
    add_status(&mut facts, pid)?;
    for kind in NAMESPACES {
        facts.insert(format!("namespace {kind}"), whose(pid, kind, joined)?.into());
    }
    let nodes = fs::read_to_string("/proc/self/mountinfo")?;
    for (at, mounts) in mounts::parse(&text(pid, "mountinfo")?, &nodes) {
        let lines: Vec<String> = mounts.iter().map(mounts::Mount::line).collect();
        facts.insert(format!("mount {at}"), lines.join(" | "));
    }
    for line in text(pid, "limits")?.lines().skip(1) {
        let (name, values) = line.split_at_checked(26).context("a line of limits")?;
        facts.insert(format!("limit {}", name.trim()), words(values));
    }
    for file in WHOLE {
        // Some kernels have not all of them.
        let value = text(pid, file).unwrap_or_else(|error| format!("none: {}", error.root_cause()));
        facts.insert(file.into(), value.lines().map(words).collect::<Vec<_>>().join(", "));
    }
    add_stat(&mut facts, pid)?;
    add_cgroups(&mut facts, pid)?;
    add_descriptors(&mut facts, pid)?;
    for link in ["cwd", "root"] {
        facts.insert(
            link.into(),
            fs::read_link(format!("/proc/{pid}/{link}"))?.display().to_string(),
        );
    }
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    facts.insert(
        "environment".into(),
        environment.iter().filter(|it| **it != 0).count().to_string(),
    );
    facts.insert(
        "owner of /proc/PID".into(),
        fs::metadata(format!("/proc/{pid}/mem"))?.uid().to_string(),
    );
    facts.extend(files::below(pid).into_iter().map(|(path, what)| (format!("file {path}"), what)));
    facts.extend(seen_inside(pid, config)?);
    let keyring = keyring::of(pid)?;
    let is_number = keyring.bytes().all(|it| it.is_ascii_digit());
    let whose = match is_number {
        _ if keyring == joined.keyring => "the node's".into(),
        true => "its own".into(),
        false => keyring,
    };
    facts.insert("session keyring".into(), whose);
    let plain = |text: String| text.replace(name, "NAME");
    Ok(facts.into_iter().map(|(fact, value)| (plain(fact), plain(value))).collect())
}

fn text(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| file.to_owned())
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn add_status(facts: &mut Facts, pid: u32) -> Result<()> {
    for line in text(pid, "status")?.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if STATUS.contains(&name) {
            facts.insert(name.into(), words(value));
        }
    }
    Ok(())
}

fn whose(pid: u32, kind: &str, joined: &Joined) -> Result<&'static str> {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}"));
    let own = of(&pid.to_string())?;
    let others = [&joined.others, &joined.users].map(|child| of(&child.id().to_string()).ok());
    // The process that waits in it joins a PID namespace by its children.
    let pids = fs::read_link(format!("/proc/{}/ns/pid_for_children", joined.others.id())).ok();
    Ok(match () {
        _ if own == of("self")? => "the node's",
        _ if others.iter().flatten().any(|it| *it == own) || pids.is_some_and(|it| it == own) => {
            "joined"
        }
        () => "its own",
    })
}

fn add_stat(facts: &mut Facts, pid: u32) -> Result<()> {
    let stat = text(pid, "stat")?;
    let (_, after) = stat.rsplit_once(") ").context("stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    for (name, place) in STAT {
        facts.insert(name.into(), fields.get(place).copied().unwrap_or_default().into());
    }
    let is_own = |place: usize| fields.get(place).is_some_and(|it| *it == pid.to_string());
    facts.insert("leads its process group".into(), is_own(2).to_string());
    facts.insert("leads its session".into(), is_own(3).to_string());
    facts.insert("has a terminal".into(), fields.get(4).is_some_and(|it| *it != "0").to_string());
    Ok(())
}

fn add_cgroups(facts: &mut Facts, pid: u32) -> Result<()> {
    for line in text(pid, "cgroup")?.lines() {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { continue };
        facts.insert(format!("cgroup {controllers}"), path.into());
        let hierarchy = match controllers {
            "" if cgroups::is_unified() => "",
            "" => "unified",
            other => other.trim_start_matches("name="),
        };
        let folder =
            PathBuf::from("/sys/fs/cgroup").join(hierarchy).join(path.trim_start_matches('/'));
        for file in OF_CGROUP {
            if let Ok(value) = fs::read_to_string(folder.join(file)) {
                facts.insert(
                    format!("cgroup {controllers} {file}"),
                    value.trim().replace('\n', ", "),
                );
            }
        }
    }
    Ok(())
}

/// What it has open, by kind and by how it may be used. How many there are of each is the engine's business.
fn add_descriptors(facts: &mut Facts, pid: u32) -> Result<()> {
    let mut kinds = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let target = target.display().to_string();
        // The kind of device says more than the path: one in a mount that is attached nowhere has none.
        let device = fs::metadata(entry.path()).ok().filter(|it| it.file_type().is_char_device());
        let device = device.map(|it| format!("device {}:{}", major(it.rdev()), minor(it.rdev())));
        let kind = match target.split_once(':') {
            _ if target.starts_with("/dev/pts/") => "terminal".into(),
            _ if device.is_some() => device.unwrap_or_default(),
            Some((kind @ ("socket" | "pipe"), _)) => kind.to_owned(),
            _ if target.starts_with("/memfd:") || target.contains("/cache") => "code".into(),
            _ => target,
        };
        let number = entry.file_name().to_string_lossy().into_owned();
        let info = text(pid, &format!("fdinfo/{number}")).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap_or_default();
        let access = u32::from_str_radix(flags.trim(), 8).unwrap_or_default() & 0o3;
        kinds.insert(format!("{kind} {}", ["r", "w", "rw", "?"][access as usize]));
    }
    facts.extend(kinds.into_iter().map(|kind| (format!("open {kind}"), "yes".to_owned())));
    Ok(())
}

/// What processes see in its namespaces: names, the loopback device, and the parameters that the spec sets.
fn seen_inside(pid: u32, config: &Value) -> Result<Facts> {
    let parameters = config["linux"]["sysctl"].as_object();
    let names: Vec<&String> = parameters.into_iter().flat_map(|it| it.keys()).collect();
    let mut script = String::from(
        "uname -n; cat /proc/sys/kernel/domainname; ip -o link show lo | cut -d' ' -f3",
    );
    for name in &names {
        script += &format!("; cat /proc/sys/{}", name.replace('.', "/"));
    }
    let pid = pid.to_string();
    let output = command::run("nsenter", ["-t", &pid, "-u", "-n", "-i", "sh", "-c", &script])?;
    let own = ["host name", "domain name", "loopback"].into_iter().map(str::to_owned);
    let all = own.chain(names.into_iter().map(|name| format!("parameter {name}")));
    Ok(all.zip(output.success()?.stdout.lines().map(words)).collect())
}
