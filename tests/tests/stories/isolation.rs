//! Isolation of a guest's process, compared fact by fact with a record.
//!
//! `isolation.txt` has the facts of each container below. With `WASMTIME_SHIM_TEST_RECORD` in the environment it is written
//! anew, so that the changes can be reviewed.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::stat::{major, minor};
use serde_json::{Value, json};
use tests::isolation::places::Joined;
use tests::processes::system_call;
use tests::shim::{Bundle, Shim};
use tests::wait::{self, SOON};

use crate::shim::{ends, granted};

mod failures;
mod hooks;
mod libraries;
mod mounts;
mod propagation;

/// Variable with which the story writes the file.
const RECORD: &str = "WASMTIME_SHIM_TEST_RECORD";

const SIGKILL: u32 = 9;

fn recorded() -> PathBuf {
    tests::containerd::repository().join("tests/tests/stories/isolation.txt")
}

/// A server in namespaces of its own, which runs until it is killed.
fn server() -> Result<Bundle> {
    let bundle = Bundle::guest("hello-http")?;
    bundle.edit_config(|config| {
        config["linux"]["namespaces"] = json!([{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" },
            { "type": "uts" }, { "type": "network" }]);
    })?;
    Ok(bundle)
}

/// Fields of a status (proc(5)) that restrict a process.
const STATUS: [&str; 13] = [
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
    "Threads",
];

/// Soft and hard limit of open files in a spec. If the spec has none, the process has the shim's.
const OPEN_FILES: [u32; 2] = [512, 1024];

fn facts(pid: u32, bundle: &Bundle, joined: Option<u32>) -> Result<String> {
    let of =
        |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).context(name.to_owned());
    let mut facts = String::new();
    for line in of("status")?.lines().filter(|line| STATUS.iter().any(|it| line.starts_with(it))) {
        // Other lines begin with the same letters.
        if STATUS.contains(&line.split(':').next().unwrap_or_default()) {
            writeln!(facts, "{}", words(line))?;
        }
    }
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"] {
        writeln!(facts, "namespace {kind}: {}", whose(pid, kind, joined)?)?;
    }
    // They are sorted, because their order differs in a user namespace.
    let mounts: BTreeSet<String> = of("mountinfo")?.lines().map(mount).collect();
    for mount in mounts {
        writeln!(facts, "mount {mount}")?;
    }
    let limit = of("limits")?.lines().find(|line| line.starts_with("Max open files")).map(words);
    let limit = limit.filter(|line| line.contains(&format!(" {} ", OPEN_FILES[0])));
    writeln!(facts, "limit {}", limit.as_deref().unwrap_or("none of its own"))?;
    // If the spec has none, the process has the shim's, which is near the test's.
    if let Some(score) = of("oom_score_adj")?.trim().parse::<i32>().ok().filter(|it| *it > 100) {
        writeln!(facts, "oom_score_adj: {score}")?;
    }
    let own = of("cgroup")?.lines().filter(|line| line.ends_with(&bundle.cgroup())).count();
    writeln!(facts, "in its cgroup: {}", own > 0)?;
    let environment = fs::read(format!("/proc/{pid}/environ"))?;
    writeln!(facts, "environment: {}", environment.iter().filter(|byte| **byte != 0).count())?;
    for entry in devices(Path::new(&format!("/proc/{pid}/root/dev")))? {
        writeln!(facts, "device {entry}")?;
    }
    Ok(facts)
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn whose(pid: u32, kind: &str, joined: Option<u32>) -> Result<&'static str> {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}"));
    let own = of(&pid.to_string())?;
    let joined = joined.map(|joined| of(&joined.to_string())).transpose()?;
    Ok(match () {
        _ if own == of("self")? => "the node's",
        _ if joined == Some(own) => "joined",
        () => "its own",
    })
}

/// Mount point, restricting options and propagation of a mount, and its type if that does not depend on the machine.
fn mount(line: &str) -> String {
    let (own, of_file_system) = line.split_once(" - ").unwrap_or_default();
    let fields: Vec<&str> = own.split(' ').collect();
    let kept = ["ro", "rw", "nosuid", "nodev", "noexec"];
    let mut options: Vec<&str> = fields[5].split(',').filter(|it| kept.contains(it)).collect();
    if fields[4].starts_with("/dev/") {
        // This is a device of the node, with the options of the node's `/dev`.
        options.retain(|it| !["nosuid", "noexec"].contains(it));
    }
    let tags = fields[6..].iter().filter_map(|tag| tag.split(':').next());
    let kind = of_file_system.split(' ').next().filter(|_| fields[4] == "/dev");
    let parts = [fields[4].to_owned(), options.join(",")].into_iter();
    parts.chain(tags.chain(kind).map(str::to_owned)).collect::<Vec<_>>().join(" ")
}

fn devices(directory: &Path) -> Result<BTreeSet<String>> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(BTreeSet::new()) };
    let nodes = entries.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok().filter(|it| it.file_type().is_char_device())?;
        let (number, mode) = (metadata.rdev(), metadata.permissions().mode() & 0o777);
        let name = entry.file_name().into_string().ok()?;
        Some(format!("{name} {}:{} {mode:o}", major(number), minor(number)))
    });
    Ok(nodes.collect())
}

/// Kinds of descriptors that a running process has open. Their number depends on the engine.
fn descriptors(pid: u32) -> Result<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
    let kinds = entries.filter_map(|entry| fs::read_link(entry.path()).ok()).map(|target| {
        let target = target.display().to_string();
        match target.split_once(':') {
            Some((kind @ ("socket" | "pipe"), _)) => kind.to_owned(),
            _ if target.starts_with("/memfd:") || target.ends_with(".code") => "code".into(),
            _ => target,
        }
    });
    Ok(kinds.map(|kind| format!("open {kind}\n")).collect::<BTreeSet<_>>().into_iter().collect())
}

/// Creates and starts the bundle's container, and returns its facts.
fn take_down(bundle: Bundle, joined: Option<u32>) -> Result<String> {
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    // It has loaded its guest, and given up what only that needs.
    wait::until(SOON, "the process to wait for Start", || Ok(waits_for_start(pid).then_some(())))?;
    let facts = facts(pid, &bundle, joined)?;
    granted(shim.start(&bundle.id))?;
    end(&shim, &bundle)?;
    bundle.close()?;
    Ok(facts)
}

/// Whether the process reads from the fifo at which it waits for Start.
fn waits_for_start(pid: u32) -> bool {
    let read = system_call(pid);
    let file = read.and_then(|(_, fd)| fs::read_link(format!("/proc/{pid}/fd/{fd}")).ok());
    file.is_some_and(|file| file.ends_with("start"))
}

/// Kills a container, deletes it, and waits until its shim has ended.
pub fn end(shim: &Shim, bundle: &Bundle) -> Result<()> {
    granted(shim.kill_all(&bundle.id, SIGKILL))?;
    granted(shim.wait(&bundle.id))?;
    granted(shim.delete(&bundle.id))?;
    ends(shim, bundle)
}

/// Containers, each with particular fields in its spec.
fn containers() -> Result<Vec<(&'static str, Bundle, Option<Joined>)>> {
    let plain = server()?;
    let user = server()?;
    user.edit_config(|config| {
        config["process"]["user"] =
            json!({ "uid": 1000, "gid": 1001, "additionalGids": [10, 20], "umask": 0o027 });
        config["process"]["capabilities"] = capabilities();
        config["process"]["oomScoreAdj"] = json!(900);
        config["process"]["rlimits"] =
            json!([{ "type": "RLIMIT_NOFILE", "soft": OPEN_FILES[0], "hard": OPEN_FILES[1] }]);
    })?;
    let volumes = server()?;
    volumes.edit_config(|config| add_volumes(config, &volumes.folder))?;
    let filtered = server()?;
    filtered.edit_config(|config| {
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{ "names": ["mkdir", "no_such_call"], "action": "SCMP_ACT_ERRNO" }] });
        config["process"]["capabilities"] = capabilities();
    })?;
    let mapped = server()?;
    mapped.edit_config(map_ids)?;
    give_root_to(&mapped, 100_000)?;
    let joining = server()?;
    let joined = Joined::start()?;
    joining.edit_config(|config| {
        let path = |kind: &str| format!("/proc/{}/ns/{kind}", joined.others.id());
        config["linux"]["namespaces"] = json!([{ "type": "mount" },
            { "type": "pid", "path": path("pid_for_children") }, { "type": "ipc", "path": path("ipc") },
            { "type": "network", "path": path("net") }, { "type": "uts", "path": path("uts") }]);
    })?;
    Ok(vec![
        ("plain", plain, None),
        ("a user with groups, capabilities and limits", user, None),
        ("volumes in a root that is read-only", volumes, None),
        ("a seccomp filter", filtered, None),
        ("a user namespace", mapped, None),
        ("joined namespaces", joining, Some(joined)),
    ])
}

fn capabilities() -> Value {
    let all = json!(["CAP_CHOWN", "CAP_MKNOD", "CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN"]);
    json!({ "bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": all })
}

fn add_volumes(config: &mut Value, folder: &Path) {
    let volume = folder.join("volume");
    fs::create_dir_all(volume.join("below")).expect("made");
    fs::write(folder.join("hosts"), "").expect("written");
    let bind = |at: &str, source: &Path, options: &[&str]| {
        let options: Vec<&str> = ["rbind"].iter().chain(options).copied().collect();
        json!({ "destination": at, "type": "bind", "source": source, "options": options })
    };
    config["root"]["readonly"] = json!(true);
    config["mounts"] = json!([
        { "destination": "/proc", "type": "proc", "source": "proc" },
        { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
        bind("/data", &volume, &["rw"]),
        bind("/read", &volume, &["ro", "rprivate"]),
        bind("/part", &volume.join("below"), &["rw", "nosuid", "noexec"]),
        bind("/etc/hosts", &folder.join("hosts"), &["ro"]),
        { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["noexec", "mode=1777"] },
    ]);
}

fn map_ids(config: &mut Value) {
    let range = json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]);
    config["linux"]["uidMappings"] = range.clone();
    config["linux"]["gidMappings"] = range;
    let kinds = ["user", "pid", "mount", "ipc", "uts", "network"];
    config["linux"]["namespaces"] =
        kinds.iter().map(|kind| json!({ "type": kind })).collect::<Value>();
}

/// Changes the owner of the root, as a snapshotter does for a container in a user namespace.
fn give_root_to(bundle: &Bundle, id: u32) -> Result<()> {
    Ok(chown(bundle.folder.join("image"), Some(id), Some(id))?)
}

#[test]
fn a_guests_process_has_the_bounds_that_were_recorded() -> Result<()> {
    let mut all = String::new();
    for (name, bundle, joined) in containers()? {
        let facts = take_down(bundle, joined.as_ref().map(|joined| joined.others.id()));
        write!(all, "# {name}\n{}\n", facts.with_context(|| name.to_owned())?)?;
    }
    if env::var_os(RECORD).is_some() {
        return Ok(fs::write(recorded(), all)?);
    }
    let expected = fs::read_to_string(recorded())?;
    for (expected, found) in expected.split("# ").zip(all.split("# ")) {
        assert_eq!(found, expected);
    }
    assert_eq!(all, expected);
    Ok(())
}

#[test]
fn a_guest_that_runs_has_nothing_open_but_what_it_needs() -> Result<()> {
    let bundle = server()?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(&bundle.id))?;
    // It waits for signals by a descriptor when it was released.
    let serves = || Ok(descriptors(pid)?.contains("signalfd").then_some(()));
    wait::until(SOON, "the server to begin", serves)?;
    let open = descriptors(pid)?;
    for line in open.lines() {
        let kinds = [
            "open /dev/null",
            "open anon_inode:",
            "open socket",
            "open pipe",
            "open code",
            "open /",
        ];
        assert!(kinds.iter().any(|kind| line.starts_with(kind)), "{line}");
        // No file of the node can be written, and the only open directory is the container's root.
        let is_file = line.starts_with("open /") && line != "open /" && line != "open /dev/null";
        assert!(!is_file || line.contains("pagemap") || line.contains("cache"), "{line}");
    }
    end(&shim, &bundle)?;
    bundle.close()
}

fn bind(at: &str, source: &Path) -> Value {
    json!({ "destination": at, "type": "bind", "source": source, "options": ["rbind", "rw"] })
}

#[test]
fn a_user_namespace_has_as_many_ranges_as_the_spec_and_volumes_their_own_ids() -> Result<()> {
    let bundle = server()?;
    let volume = bundle.folder.join("volume");
    fs::create_dir(&volume)?;
    fs::write(volume.join("file"), "")?;
    give_root_to(&bundle, 200_000)?;
    let ranges = json!([{ "containerID": 0, "hostID": 200_000, "size": 1000 },
        { "containerID": 1000, "hostID": 300_000, "size": 1 }]);
    bundle.edit_config(|config| {
        map_ids(config);
        config["linux"]["uidMappings"] = ranges.clone();
        config["linux"]["gidMappings"] = ranges.clone();
        config["process"]["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [5] });
        let mount = json!({ "destination": "/data", "type": "bind", "source": volume,
            "options": ["rbind", "rw"], "uidMappings": ranges, "gidMappings": ranges });
        config["mounts"] = json!([config["mounts"][1], mount]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = |name: &str| words(status.lines().find(|it| it.starts_with(name)).unwrap_or(""));
    assert_eq!(line("Uid:"), "Uid: 300000 300000 300000 300000");
    assert_eq!(line("Groups:"), "Groups: 200005");
    // A file of root belongs to the container's root.
    let owner = fs::metadata(format!("/proc/{pid}/root/data/file"))?.uid();
    assert_eq!(owner, 200_000);
    let devices = devices(Path::new(&format!("/proc/{pid}/root/dev")))?;
    assert_eq!(devices.len(), 6, "{devices:?}");
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn the_loopback_device_of_a_new_network_is_up() -> Result<()> {
    let bundle = server()?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?.to_string();
    let shown =
        Command::new("nsenter").args(["-t", &pid, "-n", "ip", "link", "show", "lo"]).output()?;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("LOOPBACK,UP"), "{shown}");
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}
