//! Mounts of the generated specs: those that containerd makes in every container, and volumes.

use serde_json::{Value, json};

use crate::isolation::places;
use crate::isolation::specs::Maker;

/// Directories in the container: of the image, of none, behind a link, and below others.
const DIRECTORIES: [&str; 11] = [
    "/data",
    "/data/below",
    "/read",
    "/made/deep/path",
    "/link/below",
    "/tmp",
    "/dev/shm",
    "/run/secrets",
    "/var/cache",
    "/work",
    "/away/volume",
];

/// Directories of the node.
const SOURCES: [&str; 4] = [places::PLAIN, places::BELOW, places::TREE, places::NO_EXEC];

const ACCESS: [Option<&str>; 6] =
    [None, Some("rw"), Some("rw"), Some("ro"), Some("ro"), Some("rro")];

const PROPAGATION: [Option<&str>; 9] = [
    None,
    None,
    None,
    Some("rprivate"),
    Some("private"),
    Some("rslave"),
    Some("slave"),
    Some("rshared"),
    Some("unbindable"),
];

const RARE: [&str; 7] = ["noatime", "relatime", "strictatime", "nodiratime", "suid", "dev", "exec"];

pub(super) fn ranges(all: &[[u32; 3]]) -> Value {
    let range = |[inside, outside, size]: &[u32; 3]| json!({ "containerID": inside, "hostID": outside, "size": size });
    all.iter().map(range).collect()
}

pub(super) fn make_up(maker: &mut Maker) -> Value {
    let mut mounts = of_containerd();
    let mut places = DIRECTORIES.to_vec();
    maker.rng.shuffle(&mut places);
    let count = maker.rng.usize(..5);
    let mut added: Vec<Value> = Vec::new();
    for at in places.into_iter().take(count) {
        let volume = if maker.one_in(4) { in_memory(maker, at) } else { bind(maker, at) };
        added.push(volume);
    }
    if maker.one_in(3) {
        let access = maker.pick(&["ro", "rw"]);
        added.push(json!({ "destination": "/etc/hosts", "type": "bind", "source": places::FILE,
            "options": ["rbind", "rprivate", access] }));
    }
    if !maker.one_in(5) {
        // As CRI does, so that what is below comes later.
        added.sort_by_key(|it| it["destination"].as_str().map(|at| at.matches('/').count()));
    }
    if maker.is_for_guests() && maker.one_in(40) {
        added.push(json!({ "destination": "/none", "type": "bind", "source": "/no/such/volume",
            "options": ["rbind"] }));
    }
    mounts.extend(added);
    json!(mounts)
}

fn of_containerd() -> Vec<Value> {
    let mount = |at: &str, kind: &str, options: &[&str]| json!({ "destination": at, "type": kind, "source": kind, "options": options });
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
        ),
        json!({ "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] }),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ]
}

fn bind(maker: &mut Maker, at: &str) -> Value {
    let mut options = vec![maker.pick(&["bind", "rbind", "rbind"])];
    options.extend(access(maker));
    options.extend(maker.pick(&PROPAGATION));
    for name in ["nosuid", "noexec", "nodev"] {
        if maker.one_in(4) {
            options.push(name);
        }
    }
    if maker.one_in(5) {
        options.push(maker.pick(&RARE));
    }
    // Some runtimes cannot keep the options of the source in a user namespace.
    let count = SOURCES.len() - usize::from(!maker.is_for_guests() && maker.has_user());
    let source = maker.pick(&SOURCES[..count]);
    let mut mount =
        json!({ "destination": at, "type": "bind", "source": source, "options": options });
    if maker.is_for_guests() && maker.has_own("user") && maker.one_in(4) {
        let ids = ranges(&maker.ranges);
        mount["uidMappings"] = ids.clone();
        mount["gidMappings"] = ids;
    }
    mount
}

/// Recursive access is newer than some OCI runtimes, which take it for a word of the file system's.
fn access(maker: &mut Maker) -> Option<&'static str> {
    maker.pick(&ACCESS).filter(|it| maker.is_for_guests() || *it != "rro")
}

fn in_memory(maker: &mut Maker, at: &str) -> Value {
    let mut options = Vec::new();
    for name in [
        "nosuid",
        "noexec",
        "nodev",
        "mode=1777",
        "mode=0750",
        "size=64k",
        "size=1m",
        "ro",
        "noatime",
    ] {
        if maker.one_in(3) {
            options.push(name);
        }
    }
    if maker.one_in(4) {
        options.push("tmpcopyup");
    }
    json!({ "destination": at, "type": "tmpfs", "source": "tmpfs", "options": options })
}
