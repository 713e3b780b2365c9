//! What made-up specs have of the kernel's: cgroup, filter, parameters, and paths that are kept from the container.

use serde_json::{Map, Value, json};

use crate::cgroups;
use crate::isolation::specs::Maker;
use crate::isolation::{places, volumes};

/// What containerd takes from every program's sight.
const MASKED: [&str; 5] =
    ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"];
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl Maker {
    /// The part of the spec that is the kernel's.
    pub(super) fn linux(&mut self, namespaces: Value) -> Value {
        let mut masked = MASKED.to_vec();
        let mut read_only = READ_ONLY.to_vec();
        if self.one_in(6) {
            masked.extend(self.some(&["/work/secret", "/work/hidden", "/no/such/file"]));
            read_only.extend(self.some(&["/work/kept", "/etc", "/no/such/file"]));
        }
        let mut linux = json!({ "namespaces": namespaces, "cgroupsPath": places::CGROUP,
            "maskedPaths": masked, "readonlyPaths": read_only });
        if self.is_for_guests() && self.one_in(15) {
            linux["cgroupsPath"].take();
        }
        if self.has_own("user") {
            let ranges = volumes::ranges(&self.ranges);
            linux["uidMappings"] = ranges.clone();
            linux["gidMappings"] = ranges;
        }
        if !self.one_in(4) {
            linux["resources"] = self.resources();
        }
        if self.one_in(4) {
            linux["seccomp"] = self.seccomp();
        }
        if self.one_in(3) {
            linux["sysctl"] = Value::Object(self.parameters());
        }
        if self.one_in(5) {
            let kinds =
                ["private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable"];
            // Some runtimes cannot have the last.
            let count = kinds.len() - usize::from(!self.is_for_guests());
            linux["rootfsPropagation"] = json!(self.pick(&kinds[..count]));
        }
        if self.one_in(10) {
            linux["devices"] = json!([{ "path": "/dev/extra", "type": "c", "major": 1, "minor": 3,
                "fileMode": 0o666, "uid": 0, "gid": 0 }]);
        }
        if self.has_own("time") {
            linux["timeOffsets"] = json!({ "monotonic": { "secs": 1000, "nanosecs": 0 } });
        }
        if self.is_for_guests() && self.one_in(20) {
            linux["personality"] = json!({ "domain": self.pick(&["LINUX", "LINUX32"]) });
        }
        linux
    }

    fn resources(&mut self) -> Value {
        let mut resources = json!({});
        if self.one_in(2) {
            let mut cpu = json!({ "shares": self.pick(&[2, 512, 1024, 4096]) });
            if self.one_in(2) {
                cpu["quota"] = json!(self.pick(&[20_000, 150_000, -1]));
                cpu["period"] = json!(self.pick(&[50_000, 100_000]));
            }
            if self.one_in(3) {
                (cpu["cpus"], cpu["mems"]) = (json!("0"), json!("0"));
            }
            resources["cpu"] = cpu;
        }
        if self.one_in(2) {
            let limit = self.pick(&[96_i64 << 20, 256 << 20, -1]);
            resources["memory"] = json!({ "limit": limit });
            if self.one_in(3) {
                resources["memory"]["reservation"] = json!(64 << 20);
            }
            if self.is_for_guests() && self.one_in(6) {
                resources["memory"]["swap"] = json!(limit);
            }
        }
        if self.one_in(2) {
            resources["pids"] = json!({ "limit": self.pick(&[-1, 64, 1000]) });
        }
        if self.one_in(2) {
            resources["devices"] = devices();
        }
        if cgroups::is_unified() && self.one_in(4) {
            resources["unified"] = json!({ "memory.high": "200000000", "pids.max": "900" });
        }
        resources
    }

    fn seccomp(&mut self) -> Value {
        let rules = [
            json!({ "names": ["mkdir", "mkdirat", "no_such_call"], "action": "SCMP_ACT_ERRNO" }),
            json!({ "names": ["ptrace"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 }),
            json!({ "names": ["keyctl", "add_key"], "action": "SCMP_ACT_ERRNO" }),
            json!({ "names": ["personality"], "action": "SCMP_ACT_ERRNO",
                "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] }),
            json!({ "names": ["reboot", "kexec_load"], "action": "SCMP_ACT_KILL_PROCESS" }),
            json!({ "names": ["swapon"], "action": "SCMP_ACT_LOG" }),
        ];
        let count = self.rng.usize(1..4);
        let syscalls: Vec<Value> = (0..count).map(|_| self.pick(&rules)).collect();
        let mut filter = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls });
        if self.one_in(2) {
            filter["architectures"] = json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
        }
        if self.is_for_guests() && self.one_in(5) {
            filter["flags"] = json!(["SECCOMP_FILTER_FLAG_LOG"]);
        }
        filter
    }

    fn parameters(&mut self) -> Map<String, Value> {
        let all = [
            ("network", "net.ipv4.ip_unprivileged_port_start", "80"),
            ("network", "net.ipv4.ping_group_range", "0 1000"),
            ("network", "net.core.somaxconn", "300"),
            ("ipc", "kernel.shm_rmid_forced", "1"),
            ("ipc", "kernel.msgmax", "4096"),
        ];
        let own = all.into_iter().filter(|(kind, ..)| self.has_own(kind)).collect::<Vec<_>>();
        self.some(&own)
            .into_iter()
            .map(|(_, name, value)| (name.to_owned(), json!(value)))
            .collect()
    }
}

/// The rules for devices that containerd writes: all are denied but the standard ones and terminals.
fn devices() -> Value {
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    let standard = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    let allowed = standard.map(|(major, minor)| {
        json!({ "allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm" })
    });
    rules.extend(allowed);
    rules.push(json!({ "allow": true, "type": "c", "major": 136, "access": "rwm" }));
    json!(rules)
}
