//! What a guest's process may do and see, fact by fact, beside what was recorded.
//!
//! `isolation.txt` has the facts of each container below. With `WASMTIME_SHIM_TEST_RECORD` in the environment it is written
//! anew: whoever does that reads what has changed.

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use serde_json::{Value, json};
use tests::processes::{self, shim_of};
use tests::shim::{Bundle, Shim};
use tests::wait::{self, SOON};

use crate::shim::{ends, granted};

/// Tells the story to write the file.
const RECORD: &str = "WASMTIME_SHIM_TEST_RECORD";

const SIGKILL: u32 = 9;

fn recorded() -> PathBuf {
    tests::containerd::repository().join("tests/tests/stories/isolation.txt")
}

/// A server, which stays until it is killed, in namespaces of its own.
pub fn server() -> Result<Bundle> {
    let bundle = Bundle::guest("hello-http")?;
    bundle.edit_config(|config| {
        config["linux"]["namespaces"] = json!([{ "type": "pid" }, { "type": "mount" }, { "type": "ipc" },
            { "type": "uts" }, { "type": "network" }]);
    })?;
    Ok(bundle)
}

/// What of a status (proc(5)) bounds a process.
const STATUS: [&str; 12] = [
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
    "Threads",
];

/// The soft and the hard limit of open files in a spec; where there is none, it is the shim's.
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
    // In no order: those of a user namespace come in the order in which they are opened.
    let mounts: BTreeSet<String> = of("mountinfo")?.lines().map(mount).collect();
    for mount in mounts {
        writeln!(facts, "mount {mount}")?;
    }
    let limit = of("limits")?.lines().find(|line| line.starts_with("Max open files")).map(words);
    let limit = limit.filter(|line| line.contains(&format!(" {} ", OPEN_FILES[0])));
    writeln!(facts, "limit {}", limit.as_deref().unwrap_or("none of its own"))?;
    // Without one in the spec it is the shim's, which is near the test's.
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

/// Where it is, what of its options keeps a process from something, whether it is told of others' mounts, and of what kind
/// it is, where that does not depend on the machine.
fn mount(line: &str) -> String {
    let (own, of_file_system) = line.split_once(" - ").unwrap_or_default();
    let fields: Vec<&str> = own.split(' ').collect();
    let kept = ["ro", "rw", "nosuid", "nodev", "noexec"];
    let mut options: Vec<&str> = fields[5].split(',').filter(|it| kept.contains(it)).collect();
    if fields[4].starts_with("/dev/") {
        // A device of the node's, mounted as the node's `/dev` is.
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

/// What a process that runs has open, by kind: which descriptors there are of each is the engine's business.
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

/// Creates and starts the bundle's container, and takes its facts down.
fn take_down(bundle: Bundle, joined: Option<u32>) -> Result<String> {
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let facts = facts(pid, &bundle, joined)?;
    granted(shim.start(&bundle.id))?;
    end(&shim, &bundle)?;
    bundle.close()?;
    Ok(facts)
}

/// Kills a container and takes it away, and sees its shim end.
pub fn end(shim: &Shim, bundle: &Bundle) -> Result<()> {
    granted(shim.kill_all(&bundle.id, SIGKILL))?;
    granted(shim.wait(&bundle.id))?;
    granted(shim.delete(&bundle.id))?;
    ends(shim, bundle)
}

/// The containers, each with what its spec has beside what all have.
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
    let joined = Joined::new()?;
    joining.edit_config(|config| {
        let path = |kind: &str| format!("/proc/{}/ns/{kind}", joined.0.id());
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

/// As a snapshotter does for a container in a user namespace.
fn give_root_to(bundle: &Bundle, id: u32) -> Result<()> {
    Ok(chown(bundle.folder.join("image"), Some(id), Some(id))?)
}

/// A process with namespaces that others join. Killed when the story ends.
struct Joined(Child);

impl Joined {
    fn new() -> Result<Joined> {
        let kinds = ["--net", "--ipc", "--uts", "--pid", "--fork", "sleep", "1000"];
        let joined = Joined(Command::new("unshare").args(kinds).spawn()?);
        let pid = joined.0.id();
        let children = format!("/proc/{pid}/task/{pid}/children");
        wait::until(SOON, "the namespaces", || {
            let children = fs::read_to_string(&children)?;
            Ok((!children.trim().is_empty()).then_some(()))
        })?;
        Ok(joined)
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        let pid = self.0.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            let _ = Command::new("kill").args(["-9", child]).status();
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_guests_process_has_the_bounds_that_were_recorded() -> Result<()> {
    let mut all = String::new();
    for (name, bundle, joined) in containers()? {
        let facts = take_down(bundle, joined.as_ref().map(|joined| joined.0.id()));
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
    // It has an event loop, which it begins with once it was released.
    let serves = || Ok(descriptors(pid)?.contains("eventpoll").then_some(()));
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
        // Of the node's files none can be written, and no directory is open but the container's root.
        let is_file = line.starts_with("open /") && line != "open /" && line != "open /dev/null";
        assert!(!is_file || line.contains("pagemap") || line.contains("cache"), "{line}");
    }
    end(&shim, &bundle)?;
    bundle.close()
}

/// The refusal of a Create.
fn refused(bundle: Bundle) -> Result<String> {
    let shim = bundle.start()?;
    let refusal = shim.create(&bundle.create_request()).expect_err("is refused");
    ends(&shim, &bundle)?;
    bundle.close()?;
    Ok(refusal.message)
}

/// A change to a bundle's `config.json`.
type Change = fn(&mut Value);

#[test]
fn a_create_that_fails_says_at_which_step_and_on_what() -> Result<()> {
    let cases: [(Change, &str); 6] = [
        (
            |config| {
                config["mounts"][0] = json!({ "destination": "/data", "type": "bind",
                    "source": "/no/such/volume", "options": ["rbind"] });
            },
            r#"cannot mount "/data" from "/no/such/volume": no such file or directory"#,
        ),
        (
            |config| {
                config["linux"]["namespaces"][0]["path"] = json!("/no/such/namespace");
            },
            r#"cannot join the pid namespace "/no/such/namespace": no such file or directory"#,
        ),
        (
            |config| config["process"]["cwd"] = json!("/guest.wasm"),
            r#"cannot enter the working directory "/guest.wasm": not a directory"#,
        ),
        (
            |config| config["linux"]["sysctl"] = json!({ "vm.swappiness": "1" }),
            r#"cannot set the kernel parameter "vm.swappiness": it is the whole node's"#,
        ),
        (
            |config| {
                config["process"]["rlimits"] =
                    json!([{ "type": "RLIMIT_NPROC", "soft": 2, "hard": 1 }]);
            },
            "cannot set the limit RLIMIT_NPROC: invalid argument",
        ),
        (
            |config| {
                config["hooks"] = json!({ "createRuntime": [{ "path": "/bin/false" }] });
            },
            r#"cannot run the createRuntime hook "/bin/false": it ended with exit code 1"#,
        ),
    ];
    for (change, expected) in cases {
        let bundle = server()?;
        bundle.edit_config(change)?;
        let message = refused(bundle)?;
        ensure!(message.contains(expected), "{message} is not {expected}");
    }
    Ok(())
}

#[test]
fn a_volume_is_mounted_inside_the_root_wherever_the_images_links_lead() -> Result<()> {
    let bundle = server()?;
    let outside = bundle.folder.join("outside");
    fs::create_dir(&outside)?;
    let image = bundle.folder.join("image");
    symlink(&outside, image.join("away"))?;
    symlink("../../../../outside", image.join("up"))?;
    fs::create_dir(image.join("outside"))?;
    bundle.edit_config(|config| {
        config["mounts"][0] =
            json!({ "destination": "/up/data", "type": "tmpfs", "source": "tmpfs" });
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    assert!(mounts.contains(" /outside/data "), "{mounts}");
    assert_eq!(fs::read_dir(&outside)?.count(), 0, "something was made outside of the root");
    granted(shim.delete(&bundle.id))?;
    bundle.edit_config(|config| config["mounts"][0]["destination"] = json!("/away/data"))?;
    let refusal = shim.create(&bundle.create_request()).expect_err("leads to nothing");
    assert!(refusal.message.contains(r#"cannot mount "/away/data""#), "{refusal:?}");
    assert_eq!(fs::read_dir(&outside)?.count(), 0, "something was made outside of the root");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_device_node_in_a_volume_or_the_root_is_on_a_mount_that_opens_none() -> Result<()> {
    let bundle = server()?;
    let volume = bundle.folder.join("volume");
    fs::create_dir(&volume)?;
    for place in [volume.join("zero"), bundle.folder.join("image/zero")] {
        mknod(&place, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5))?;
    }
    bundle.edit_config(|config| {
        config["mounts"] = json!([{ "destination": "/data", "type": "bind", "source": volume,
            "options": ["rbind", "rw", "dev"] }]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    for place in ["zero", "data/zero"] {
        let opened = fs::File::open(format!("/proc/{pid}/root/{place}"));
        let refused = opened.expect_err("is refused").kind();
        assert_eq!(refused, std::io::ErrorKind::PermissionDenied, "{place}");
    }
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

/// The shell of the image `linux`, which needs no other file.
fn shell() -> PathBuf {
    tests::containerd::repository().join("target/images/linux-rootfs/bin/sh")
}

fn bind(at: &str, source: &Path) -> Value {
    json!({ "destination": at, "type": "bind", "source": source, "options": ["rbind", "rw"] })
}

/// A hook that runs a script.
fn hook(script: &str) -> Value {
    let path = ["PATH=/usr/bin:/bin"];
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": path }])
}

#[test]
fn hooks_run_at_their_points_and_see_the_container() -> Result<()> {
    let bundle = server()?;
    let seen = bundle.folder.join("seen");
    fs::create_dir(&seen)?;
    let [outside, inside] = [seen.as_path(), Path::new("/seen")].map(|seen| {
        move |kind: &str| {
            hook(&format!("read -r state; echo {kind} $state >>{}/log", seen.display()))
        }
    });
    let kinds =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    bundle.edit_config(|config| {
        for kind in kinds {
            config["hooks"][kind] = outside(kind);
        }
        config["hooks"]["startContainer"] = inside("startContainer");
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.extend([bind("/seen", &seen), bind("/bin/sh", &shell())]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(&bundle.id))?;
    let log = || -> Result<String> { Ok(fs::read_to_string(seen.join("log"))?) };
    wait::until(SOON, "the hooks", || Ok(log()?.contains("startContainer").then_some(())))?;
    granted(shim.kill_all(&bundle.id, SIGKILL))?;
    granted(shim.wait(&bundle.id))?;
    granted(shim.delete(&bundle.id))?;
    let log = log()?;
    // Whether `poststart` or `startContainer` is first is not said: they run in different processes.
    let order: BTreeSet<&str> = log.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(order, BTreeSet::from(kinds), "{log}");
    assert!(log.lines().all(|line| line.contains(&bundle.id)), "{log}");
    // The pid is that in the hook's own pid namespace.
    let pids = [Some(pid), Some(pid), Some(1), Some(1), Some(pid), None];
    for (kind, pid) in kinds.into_iter().zip(pids) {
        let line = log.lines().find(|line| line.starts_with(kind)).unwrap_or_default();
        let state: Value = serde_json::from_str(&line[kind.len()..])?;
        assert_eq!(state.get("pid"), pid.map(Value::from).as_ref(), "{line}");
    }
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn hooks_for_the_end_run_after_a_create_that_failed_on_the_way() -> Result<()> {
    let bundle = server()?;
    let seen = bundle.folder.join("seen");
    bundle.edit_config(|config| {
        config["hooks"]["createRuntime"] =
            hook(&format!("echo begun >>{}; exit 3", seen.display()));
        config["hooks"]["poststop"] = hook(&format!("tr -d '\\n' >>{}", seen.display()));
    })?;
    let shim = bundle.start()?;
    let refusal = shim.create(&bundle.create_request()).expect_err("is refused");
    assert!(refusal.message.contains("exit code 3"), "{refusal:?}");
    let seen = fs::read_to_string(&seen)?;
    assert!(seen.starts_with("begun\n{") && seen.contains("stopped"), "{seen}");
    assert_eq!(seen.matches("ociVersion").count(), 1, "{seen}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_hook_that_hangs_keeps_its_caller_no_longer_than_it_waits() -> Result<()> {
    for kind in ["createRuntime", "createContainer", "poststart"] {
        let bundle = server()?;
        bundle.edit_config(|config| config["hooks"][kind] = hook("exec sleep 1000"))?;
        let shim = bundle.start()?;
        let (begin, patience) = (Instant::now(), Duration::from_secs(8));
        let created = shim.create_within(patience, &bundle.create_request());
        let refused = match kind {
            "poststart" => created.and_then(|_| shim.start_within(patience, &bundle.id)),
            _ => created.map(drop),
        };
        let message = refused.expect_err("it hangs").message;
        assert!(begin.elapsed() < SOON, "{message}");
        let reason =
            if kind == "createContainer" { "not ready in time" } else { "did not end within" };
        assert!(message.contains(reason), "{kind}: {message}");
        let ended = || {
            let family = processes::family(&shim_of(&bundle.id)?);
            Ok(family.iter().all(|it| !it.command.contains("sleep")).then_some(()))
        };
        wait::until(SOON, "the hook to end", ended).with_context(|| kind)?;
        if kind == "poststart" {
            granted(shim.kill_all(&bundle.id, SIGKILL))?;
            granted(shim.delete(&bundle.id))?;
        }
        ends(&shim, &bundle)?;
        bundle.close()?;
    }
    Ok(())
}

#[test]
fn a_volume_of_the_users_at_dev_shm_is_there_and_a_dev_that_is_read_only_is_so() -> Result<()> {
    let bundle = server()?;
    let volume = bundle.folder.join("volume");
    fs::create_dir(&volume)?;
    fs::write(volume.join("file"), "")?;
    bundle.edit_config(|config| {
        config["mounts"] = json!([
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "mode=755"] },
            bind("/dev/shm", &volume),
        ]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    assert!(root.join("dev/shm/file").exists());
    assert_eq!(devices(&root.join("dev"))?.len(), 6);
    let refused = fs::write(root.join("dev/new"), "").expect_err("is read-only").kind();
    assert_eq!(refused, std::io::ErrorKind::ReadOnlyFilesystem);
    fs::write(root.join("dev/shm/new"), "")?;
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_file_system_in_memory_begins_with_the_images_files_where_the_spec_says_so() -> Result<()> {
    let bundle = server()?;
    let below = bundle.folder.join("image/data/below");
    fs::create_dir_all(&below)?;
    fs::write(below.join("file"), "text")?;
    chown(below.join("file"), Some(1000), Some(1001))?;
    fs::set_permissions(&below, fs::Permissions::from_mode(0o750))?;
    symlink("below/file", bundle.folder.join("image/data/link"))?;
    bundle.edit_config(|config| {
        config["mounts"] = json!([{ "destination": "/data", "type": "tmpfs", "source": "tmpfs",
            "options": ["tmpcopyup", "size=64k"] }]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let data = PathBuf::from(format!("/proc/{pid}/root/data"));
    assert_eq!(fs::read_to_string(data.join("below/file"))?, "text");
    assert_eq!(fs::read_link(data.join("link"))?, Path::new("below/file"));
    let file = fs::metadata(data.join("below/file"))?;
    assert_eq!((file.uid(), file.gid()), (1000, 1001));
    assert_eq!(fs::metadata(data.join("below"))?.mode() & 0o777, 0o750);
    fs::write(data.join("new"), "")?;
    assert!(!bundle.folder.join("image/data/new").exists(), "the image was written to");
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
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
    // Root's file is the container's root's.
    let owner = fs::metadata(format!("/proc/{pid}/root/data/file"))?.uid();
    assert_eq!(owner, 200_000);
    let devices = devices(Path::new(&format!("/proc/{pid}/root/dev")))?;
    assert_eq!(devices.len(), 6, "{devices:?}");
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn paths_that_the_spec_masks_or_protects_are_so_for_a_guest() -> Result<()> {
    let bundle = server()?;
    let image = bundle.folder.join("image");
    for directory in ["secret", "kept/below"] {
        fs::create_dir_all(image.join(directory))?;
    }
    for file in ["secret/key", "hidden", "kept/below/file", "seen"] {
        fs::write(image.join(file), "text")?;
    }
    bundle.edit_config(|config| {
        config["linux"]["maskedPaths"] =
            json!(["/proc/kcore", "/secret", "/hidden", "/no/such/file", "/seen/not"]);
        config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/kept", "/no/such/file"]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    assert_eq!(fs::read_dir(root.join("secret"))?.count(), 0, "the directory is not masked");
    assert_eq!(fs::read_to_string(root.join("hidden"))?, "", "the file is not masked");
    for file in ["kept/below/file", "secret/new"] {
        let refused = fs::write(root.join(file), "other").expect_err(file).kind();
        assert_eq!(refused, std::io::ErrorKind::ReadOnlyFilesystem, "{file}");
    }
    fs::write(root.join("seen"), "other")?;
    let text = fs::read_to_string(image.join("secret/key"))?;
    assert_eq!(text, "text", "the image has changed");
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
