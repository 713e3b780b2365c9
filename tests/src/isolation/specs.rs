//! Generates OCI specs. A seed decides the combination of all fields that a container's isolation depends on.
//!
//! A generated spec asks for nothing that would change the node, because a runtime may do it: a name or a kernel
//! parameter without a namespace of its own, or no mount namespace.

use std::collections::BTreeMap;

use fastrand::Rng;
use serde_json::{Value, json};

use crate::isolation::{places, volumes};

/// Which fields a spec may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fields {
    /// All that this runtime knows.
    All,
    /// Those that every OCI runtime knows, for a guest and a program alike.
    OfPrograms,
}

/// A made-up spec.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Its number.
    pub number: usize,
    /// `config.json`, but for the places.
    pub config: Value,
}

/// Whether and how a container has a namespace of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Own,
    Joined,
    Nodes,
}

/// Generates one spec.
pub(super) struct Maker {
    pub(super) rng: Rng,
    fields: Fields,
    namespaces: BTreeMap<&'static str, Namespace>,
    /// Ranges of ids, if it has a user namespace of its own.
    pub(super) ranges: Vec<[u32; 3]>,
}

/// The capabilities that containerd grants by default, and some that are granted on demand.
const CAPABILITIES: [&str; 17] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
];

/// Limits that are below those of any node, so that they can be set without CAP_SYS_RESOURCE.
const LIMITS: [(&str, u64, u64); 9] = [
    ("RLIMIT_CORE", 0, 0),
    ("RLIMIT_CPU", 3600, 7200),
    ("RLIMIT_FSIZE", 1 << 30, 1 << 31),
    ("RLIMIT_MEMLOCK", 1 << 16, 1 << 16),
    ("RLIMIT_MSGQUEUE", 0, 1 << 16),
    ("RLIMIT_NOFILE", 512, 1024),
    ("RLIMIT_NPROC", 5000, 9000),
    ("RLIMIT_SIGPENDING", 100, 1000),
    ("RLIMIT_STACK", 4 << 20, 16 << 20),
];

/// Ids of the container, those of the node from which they count, and how many.
const RANGES: [&[[u32; 3]]; 4] = [
    &[[0, 100_000, 65_536]],
    &[[0, 1_000_000, 1_000_000]],
    &[[0, 200_000, 1000], [1000, 300_000, 1]],
    &[[0, 400_000, 1], [1, 500_000, 65_535]],
];

impl Spec {
    /// The spec of that number.
    pub fn new(seed: u64, number: usize, fields: Fields) -> Self {
        let seed = seed.wrapping_mul(1_000_003).wrapping_add(number as u64);
        let (namespaces, ranges) = (BTreeMap::new(), Vec::new());
        let mut maker = Maker { rng: Rng::with_seed(seed), fields, namespaces, ranges };
        Self { number, config: maker.config() }
    }

    /// The id of the node's that the container's root has.
    pub fn root_id(&self) -> u32 {
        let linux = &self.config["linux"];
        let joins = |it: &Value| it["type"] == "user" && it["path"].is_string();
        if linux["namespaces"].as_array().is_some_and(|all| all.iter().any(joins)) {
            return places::JOINED_ROOT;
        }
        let mapped = linux["uidMappings"][0]["hostID"].as_u64();
        mapped.and_then(|id| id.try_into().ok()).unwrap_or(0)
    }

    /// Whether its container is a Pod's sandbox.
    pub fn is_sandbox(&self) -> bool {
        self.config["annotations"].is_object()
    }

    /// Whether it has a terminal.
    pub fn has_terminal(&self) -> bool {
        self.config["process"]["terminal"] == true
    }
}

impl Maker {
    pub(super) fn one_in(&mut self, count: usize) -> bool {
        self.rng.usize(..count) == 0
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(..from.len())].clone()
    }

    /// Some of them, in their order.
    pub(super) fn some<T: Copy>(&mut self, from: &[T]) -> Vec<T> {
        let share = self.rng.usize(1..4);
        from.iter().copied().filter(|_| self.rng.usize(..4) < share).collect()
    }

    pub(super) fn is_for_guests(&self) -> bool {
        self.fields == Fields::All
    }

    fn config(&mut self) -> Value {
        let namespaces = self.namespaces();
        let mut config = json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs" },
            "process": self.process(),
            "mounts": volumes::make_up(self),
            "linux": self.linux(namespaces),
        });
        if self.one_in(4) {
            config["root"]["readonly"] = json!(!self.one_in(8));
        }
        if self.has_own("uts") && self.one_in(2) {
            config["hostname"] = json!("made-up");
            if self.is_for_guests() && self.one_in(3) {
                config["domainname"] = json!("made-up.example");
            }
        }
        if self.is_for_guests() && self.one_in(12) {
            config["annotations"] = json!({ "io.kubernetes.cri.container-type": "sandbox",
                "io.kubernetes.cri.sandbox-id": "p1" });
        }
        if self.one_in(15) {
            let point = self.pick(&[
                "prestart",
                "createRuntime",
                "createContainer",
                "poststart",
                "poststop",
            ]);
            config["hooks"] = json!({ point: [{ "path": "/bin/true" }] });
        }
        config
    }

    fn has(&self, kind: &str, how: Namespace) -> bool {
        self.namespaces.get(kind) == Some(&how)
    }

    pub(super) fn has_own(&self, kind: &str) -> bool {
        self.has(kind, Namespace::Own)
    }

    pub(super) fn has_user(&self) -> bool {
        !self.has("user", Namespace::Nodes)
    }

    fn namespaces(&mut self) -> Value {
        let user = match self.rng.usize(..24) {
            // Some runtimes take none without ids of its own.
            0 if self.is_for_guests() => Namespace::Joined,
            1..4 => Namespace::Own,
            _ => Namespace::Nodes,
        };
        self.namespaces.insert("user", user);
        if self.has_own("user") {
            self.ranges = self.pick(&RANGES).to_vec();
        }
        for kind in ["pid", "ipc", "uts", "network"] {
            // A program in a user namespace may mount a kernel file system of its own namespaces alone.
            let how = match self.rng.usize(..8) {
                _ if self.has_user() && !self.is_for_guests() => Namespace::Own,
                0 => Namespace::Nodes,
                1 | 2 => Namespace::Joined,
                _ => Namespace::Own,
            };
            self.namespaces.insert(kind, how);
        }
        let rare = |is_there| if is_there { Namespace::Own } else { Namespace::Nodes };
        let (cgroup, time) = (self.one_in(4), self.is_for_guests() && self.one_in(20));
        self.namespaces.extend([
            ("cgroup", rare(cgroup)),
            ("time", rare(time)),
            ("mount", Namespace::Own),
        ]);
        let listed = self.namespaces.iter().filter_map(|(kind, how)| match how {
            Namespace::Nodes => None,
            Namespace::Own => Some(json!({ "type": kind })),
            Namespace::Joined => Some(json!({ "type": kind, "path": places::namespace(kind) })),
        });
        listed.collect()
    }

    fn process(&mut self) -> Value {
        let mut process = json!({
            "user": self.user(),
            "args": ["/guest.wasm", "sleep", "1000"],
            "env": ["PATH=/bin", "A=1"],
            "cwd": self.pick(&["/", "/", "/", "/work", "/made/here", "/data", "/closed", "/tmp"]),
        });
        let set = |process: &mut Value, field: &str, value: Option<Value>| {
            if let Some(value) = value {
                process[field] = value;
            }
        };
        let granted = (!self.one_in(8)).then(|| self.capabilities());
        set(&mut process, "capabilities", granted);
        let denied = self.pick(&[None, Some(true), Some(false)]);
        set(&mut process, "noNewPrivileges", denied.map(Value::from));
        let limits = self.one_in(2).then(|| self.limits());
        set(&mut process, "rlimits", limits);
        let score = self.pick(&[None, None, Some(100), Some(500), Some(999), Some(1000)]);
        set(&mut process, "oomScoreAdj", score.map(Value::from));
        if self.one_in(8) {
            process["terminal"] = json!(true);
            let size = self.one_in(2).then(|| json!({ "width": 120, "height": 40 }));
            set(&mut process, "consoleSize", size);
        }
        if self.is_for_guests() && self.one_in(16) {
            process["ioPriority"] = json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 });
        }
        if self.is_for_guests() && self.one_in(16) {
            let policy = self.pick(&["SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE"]);
            process["scheduler"] = json!({ "policy": policy, "nice": 3 });
        }
        process
    }

    fn user(&mut self) -> Value {
        let (uid, gid) = (self.pick(&[0, 0, 1000, 65_000]), self.pick(&[0, 1000, 5]));
        let mut user = json!({ "uid": uid, "gid": gid });
        if self.one_in(2) {
            user["additionalGids"] = json!(self.some(&[1, 5, 10, 20, 1000, 65_000]));
        }
        if let Some(mask) = self.pick(&[None, None, Some(0), Some(0o027), Some(0o077)]) {
            user["umask"] = json!(mask);
        }
        user
    }

    fn capabilities(&mut self) -> Value {
        let granted = self.some(&CAPABILITIES);
        let effective = if self.one_in(4) { self.some(&granted) } else { granted.clone() };
        let mut sets = json!({ "bounding": granted, "permitted": granted, "effective": effective });
        if self.one_in(3) {
            sets["inheritable"] = json!(granted);
            if self.one_in(2) {
                sets["ambient"] = json!(self.some(&granted));
            }
        }
        sets
    }

    fn limits(&mut self) -> Value {
        let mut limits: Vec<Value> = Vec::new();
        for (kind, soft, hard) in self.some(&LIMITS).into_iter().take(4) {
            // What no kernel takes.
            let (soft, hard) = if self.one_in(60) { (hard + 1, hard) } else { (soft, hard) };
            limits.push(json!({ "type": kind, "soft": soft, "hard": hard }));
        }
        json!(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_up_the_same_specs_again_and_another_seed_others() {
        let texts = |seed| -> Vec<String> {
            (0..50).map(|number| Spec::new(seed, number, Fields::All).config.to_string()).collect()
        };
        assert_eq!(texts(1), texts(1));
        assert!(texts(1).iter().zip(&texts(2)).all(|(one, other)| one != other));
    }

    #[test]
    fn every_field_is_in_some_of_a_thousand_specs_and_missing_in_others() {
        let all: Vec<Value> = (0..1000).map(|it| Spec::new(1, it, Fields::All).config).collect();
        for field in [
            "/annotations",
            "/hooks",
            "/hostname",
            "/domainname",
            "/root/readonly",
            "/process/capabilities",
            "/process/capabilities/ambient",
            "/process/noNewPrivileges",
            "/process/rlimits",
            "/process/oomScoreAdj",
            "/process/terminal",
            "/process/scheduler",
            "/process/ioPriority",
            "/process/user/umask",
            "/process/user/additionalGids",
            "/linux/uidMappings",
            "/linux/seccomp",
            "/linux/sysctl",
            "/linux/resources/cpu/quota",
            "/linux/resources/memory/limit",
            "/linux/resources/pids",
            "/linux/devices",
            "/linux/resources/devices",
            "/linux/rootfsPropagation",
            "/linux/timeOffsets",
            "/linux/personality",
            "/linux/uidMappings/1",
            "/mounts/9",
        ] {
            let count = all.iter().filter(|it| it.pointer(field).is_some()).count();
            assert!((10..990).contains(&count), "{field} is in {count} of 1000 specs");
        }
    }

    #[test]
    fn nothing_is_asked_for_that_would_change_the_node() {
        for number in 0..1000 {
            let config = Spec::new(2, number, Fields::All).config;
            let namespaces = config["linux"]["namespaces"].as_array().expect("namespaces").clone();
            let own =
                |kind: &str| namespaces.iter().any(|it| it["type"] == kind && it["path"].is_null());
            assert!(own("mount"));
            assert!(config["hostname"].is_null() || own("uts"));
            let parameters = config["linux"]["sysctl"].as_object().cloned().unwrap_or_default();
            for name in parameters.keys() {
                assert!(own(if name.starts_with("net.") { "network" } else { "ipc" }), "{name}");
            }
        }
    }
}
