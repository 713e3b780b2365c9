//! OCI runtime specs, fitted to a guest or the built-in pause.
//!
//! A spec is reduced to what the guest can observe, so that there is less to set up and less to attack. `/dev` stays a tmpfs, for
//! the standard device files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, Mount, Process, Spec};
use serde::Serialize;

use crate::cgroup::Cgroup;
use crate::{Error, Workload, limits, rights};

/// File systems of the kernel that only a Linux program could read.
const LINUX_ONLY: [&str; 6] = ["proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue"];

/// Annotation with the Pod's id in containerd.
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";

/// File that exists if the kernel has SELinux. containerd may write labels even if it has not.
const SELINUX: &str = "/sys/fs/selinux/enforce";

/// Reads a `config.json` of at most 8 MiB.
pub fn load(path: &Path) -> Result<Spec, Error> {
    let name = path.display();
    let file = File::open(path).map_err(Error::io(format!("open {name}")))?;
    let mut bytes = Vec::new();
    file.take(limits::SPEC_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Error::io(format!("read {name}")))?;
    if bytes.len() as u64 > limits::SPEC_BYTES {
        return Err(Error::TooLarge { path: path.to_owned(), limit: limits::SPEC_BYTES });
    }
    serde_json::from_slice(&bytes).map_err(Error::malformed(format!("parse {name}")))
}

/// Writes `value` as JSON to a file that only root may read, because it has a container's env.
pub fn save(value: &impl Serialize, path: &Path) -> Result<(), Error> {
    let name = path.display();
    let bytes = serde_json::to_vec(value).map_err(Error::malformed(format!("encode {name}")))?;
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(&bytes))
        .map_err(Error::io(format!("write {name}")))
}

/// Whether the kernel has SELinux.
pub fn has_selinux() -> bool {
    Path::new(SELINUX).exists()
}

/// Fits `spec`, read from `bundle`, to `workload`, in `cgroup`.
pub fn fit(mut spec: Spec, bundle: &Path, workload: &Workload, cgroup: &Cgroup) -> Spec {
    if let Some(linux) = spec.linux_mut() {
        linux.set_cgroups_path(Some(cgroup.cgroups_path()));
    }
    keep_denied_devices(&mut spec, cgroup);
    if let Some(root) = spec.root_mut() {
        // join keeps an absolute path as it is.
        let path: PathBuf = bundle.join(root.path());
        root.set_path(path);
    }
    if let Workload::Guest { .. } = workload {
        rights::pass_memory_limit(&mut spec, None);
    }
    if matches!(workload, Workload::Pause) && spec.hooks().is_none() {
        // It uses no files, and containerd expects its root to stay an empty directory. So nothing is mounted there, and no
        // working directory is made.
        spec.set_mounts(None);
        if let Some(process) = spec.process_mut() {
            process.set_cwd("/".into());
        }
    }
    reduce(&mut spec);
    spec
}

/// Fits the spec of an existing container in `cgroup` to an exec process that is a guest.
pub fn fit_exec(mut spec: Spec, process: Process, cgroup: &Cgroup) -> Spec {
    let process = match spec.process() {
        Some(first) => rights::with_the_rest_of(process, first),
        None => process,
    };
    spec.set_process(Some(process));
    spec.process_mut().iter_mut().for_each(rights::reduce);
    rights::pass_memory_limit(&mut spec, cgroup.memory_limit());
    spec
}

/// Drops the rule that denies every device if the cgroup already has it. On v1 the kernel refuses that rule in a cgroup with
/// children (kernel, cgroup-v1/devices.rst).
fn keep_denied_devices(spec: &mut Spec, cgroup: &Cgroup) {
    let Some(present) = cgroup.read("devices", "devices.list").filter(|_| !cgroup.is_v2()) else {
        return;
    };
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    let rules = resources.and_then(|resources| resources.devices_mut().as_mut());
    let Some(rules) = rules.filter(|_| present.lines().all(|line| !line.starts_with("a "))) else {
        return;
    };
    rules.retain(|rule| rule.allow() || !is_every_device(rule));
}

fn is_every_device(rule: &LinuxDeviceCgroup) -> bool {
    let every_type = rule.typ().is_none_or(|typ| typ == LinuxDeviceType::A);
    every_type && rule.major().is_none() && rule.minor().is_none()
}

fn reduce(spec: &mut Spec) {
    let sandbox = spec.annotations().as_ref().and_then(|it| it.get(SANDBOX_ID).cloned());
    let mounts = spec.mounts().iter().flatten().filter(|mount| is_linux_only(mount));
    let dropped: Vec<PathBuf> = mounts.map(|mount| mount.destination().clone()).collect();
    if let Some(mounts) = spec.mounts_mut() {
        mounts.retain(|mount| is_observable(mount, sandbox.as_deref()));
    }
    if let Some(linux) = spec.linux_mut() {
        linux.set_devices(None);
        // Paths inside of them would name files of the image, which may be links to elsewhere.
        let is_outside = |path: &String| !dropped.iter().any(|at| Path::new(path).starts_with(at));
        linux.masked_paths_mut().iter_mut().for_each(|paths| paths.retain(is_outside));
        linux.readonly_paths_mut().iter_mut().for_each(|paths| paths.retain(is_outside));
    }
    let Some(process) = spec.process_mut() else { return };
    // The container has no devpts of its own, so the shim makes the terminal.
    process.set_terminal(None);
    rights::reduce(process);
}

fn is_observable(mount: &Mount, sandbox: Option<&str>) -> bool {
    !is_linux_only(mount) && !is_shared_memory(mount, sandbox)
}

fn is_linux_only(mount: &Mount) -> bool {
    mount.typ().as_deref().is_some_and(|typ| LINUX_ONLY.contains(&typ))
}

/// Whether it is the mount that every container has at `/dev/shm`, for programs that share memory: a tmpfs of that name, or the
/// Pod's, which is containerd's `sandboxes/ID/shm`. A volume that the user mounts there is kept.
fn is_shared_memory(mount: &Mount, sandbox: Option<&str>) -> bool {
    let Some(source) = mount.source().as_deref() else { return false };
    let of_pod =
        sandbox.is_some_and(|id| source.ends_with(Path::new("sandboxes").join(id).join("shm")));
    mount.destination() == Path::new("/dev/shm") && (source == Path::new("shm") || of_pod)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    use oci_spec::runtime::{Capability, PosixRlimitType};

    fn spec(json: serde_json::Value) -> Spec {
        serde_json::from_value(json).expect("a valid spec")
    }

    /// Cgroup of a host with v1.
    fn cgroup() -> Cgroup {
        let nowhere = Path::new("/nowhere");
        Cgroup::in_hierarchies(nowhere, Some(Path::new("/pods/c1")), "c1", false).expect("a cgroup")
    }

    fn pod_spec() -> Spec {
        spec(serde_json::json!({
            "ociVersion": "1.0.2",
            "root": { "path": "rootfs" },
            "annotations": { "io.kubernetes.cri.sandbox-id": "p1" },
            "process": { "user": { "uid": 0, "gid": 0 }, "cwd": "/data", "args": ["a"],
                "capabilities": { "effective": ["CAP_CHOWN", "CAP_NET_BIND_SERVICE"] } },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs" },
                { "destination": "/dev/shm", "type": "bind", "source": "/run/c/sandboxes/p1/shm" },
                { "destination": "/dev/shm", "type": "tmpfs", "source": "shm" },
                { "destination": "/etc/hosts", "type": "bind", "source": "/pods/hosts" },
                { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup" }
            ],
            "linux": { "namespaces": [{ "type": "mount" }],
                "maskedPaths": ["/proc/keys", "/proc", "/secret", "/process"],
                "readonlyPaths": ["/proc/sys", "/sys/fs/cgroup/unified", "/kept"] }
        }))
    }

    fn guest() -> Workload {
        Workload::Guest { value: serde_json::Value::Null, page_map: false, fixed: vec![] }
    }

    fn destinations(spec: &Spec) -> Vec<String> {
        let mounts = spec.mounts().as_ref().expect("mounts");
        mounts.iter().map(|mount| mount.destination().display().to_string()).collect()
    }

    #[test]
    fn a_guest_keeps_volumes_and_loses_kernel_file_systems() {
        let fitted = fit(pod_spec(), Path::new("/b"), &guest(), &cgroup());
        assert_eq!(destinations(&fitted), ["/dev", "/etc/hosts"]);
        let linux = fitted.linux().as_ref().expect("linux");
        let masked = linux.masked_paths().as_deref().expect("masked");
        assert_eq!(masked, ["/secret", "/process"], "an image could have others lead elsewhere");
        assert_eq!(linux.readonly_paths().as_deref().expect("read-only"), ["/kept"]);
    }

    #[test]
    fn a_volume_of_the_users_at_dev_shm_is_kept() {
        for source in [
            "/var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/shm",
            "/dev/shm",
            "/other/sandboxes/p2/shm",
        ] {
            let mut json = serde_json::to_value(pod_spec()).expect("encodes");
            json["mounts"] = serde_json::json!([
                { "destination": "/dev/shm", "type": "bind", "source": source, "options": ["rbind"] }
            ]);
            let fitted = fit(spec(json), Path::new("/b"), &guest(), &cgroup());
            assert_eq!(destinations(&fitted), ["/dev/shm"], "{source}");
        }
    }

    #[test]
    fn a_pause_has_mounts_only_for_hooks_that_may_look_there() {
        let fitted = fit(pod_spec(), Path::new("/b"), &Workload::Pause, &cgroup());
        assert_eq!(fitted.mounts(), &None);
        assert_eq!(fitted.process().as_ref().expect("process").cwd(), Path::new("/"));
        let mut json = serde_json::to_value(pod_spec()).expect("encodes");
        json["hooks"] = serde_json::json!({ "createRuntime": [{ "path": "/hook" }] });
        let fitted = fit(spec(json), Path::new("/b"), &Workload::Pause, &cgroup());
        assert_eq!(destinations(&fitted), ["/dev", "/etc/hosts"]);
    }

    #[test]
    fn a_guest_keeps_no_capability_but_low_ports() {
        let fitted = fit(pod_spec(), Path::new("/b"), &guest(), &cgroup());
        let process = fitted.process().as_ref().expect("process");
        let capabilities = process.capabilities().as_ref().expect("capabilities");
        let only = HashSet::from([Capability::NetBindService]);
        assert_eq!(capabilities.bounding().as_ref(), Some(&only));
        assert_eq!(process.no_new_privileges(), Some(true));
    }

    #[test]
    fn a_guest_gets_its_memory_limit_if_there_is_one() {
        let rss = |limit: i64, workload: &Workload| {
            let mut json = serde_json::to_value(pod_spec()).expect("encodes");
            json["linux"]["resources"] = serde_json::json!({ "memory": { "limit": limit } });
            let fitted = fit(spec(json), Path::new("/b"), workload, &cgroup());
            let rlimits = fitted.process().clone().expect("process").rlimits().clone();
            let rlimits = rlimits.unwrap_or_default();
            rlimits.iter().map(|it| (it.typ(), it.soft(), it.hard())).collect::<Vec<_>>()
        };
        assert_eq!(rss(96 << 20, &guest()), [(PosixRlimitType::RlimitRss, 96 << 20, u64::MAX)]);
        assert_eq!(rss(-1, &guest()), []);
        assert_eq!(rss(96 << 20, &Workload::Pause), []);
    }

    #[test]
    fn a_guest_keeps_its_groups() {
        let mut grouped = pod_spec();
        if let Some(process) = grouped.process_mut() {
            let mut user = process.user().clone();
            user.set_additional_gids(Some(vec![10, 20]));
            process.set_user(user);
        }
        let fitted = fit(grouped, Path::new("/b"), &Workload::Pause, &cgroup());
        let process = fitted.process().as_ref().expect("process");
        assert_eq!(process.user().additional_gids(), &Some(vec![10, 20]));
    }

    #[test]
    fn a_label_is_no_reason_to_show_a_guest_proc() {
        let mut labelled = pod_spec();
        if let Some(process) = labelled.process_mut() {
            process.set_apparmor_profile(Some("cri-containerd.apparmor.d".into()));
        }
        let fitted = fit(labelled, Path::new("/b"), &guest(), &cgroup());
        assert_eq!(destinations(&fitted), ["/dev", "/etc/hosts"]);
        let process = fitted.process().as_ref().expect("process");
        assert_eq!(process.apparmor_profile(), &None);
    }

    #[test]
    fn devices_that_are_denied_already_are_not_denied_again() {
        let rules = |present: &str| {
            let host = tempfile::tempdir().expect("temporary directory");
            let devices = host.path().join("devices/pods/c1");
            fs::create_dir_all(&devices).expect("a cgroup");
            fs::write(devices.join("devices.list"), present).expect("its rules");
            let path = Some(Path::new("/pods/c1"));
            let cgroup = Cgroup::in_hierarchies(host.path(), path, "c1", false).expect("a cgroup");
            let mut json = serde_json::to_value(pod_spec()).expect("encodes");
            json["linux"]["resources"] = serde_json::json!({ "devices": [
                { "allow": false, "access": "rwm" },
                { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" } ] });
            let fitted = fit(spec(json), Path::new("/b"), &guest(), &cgroup);
            let resources = fitted.linux().clone().expect("linux").resources().clone();
            let rules = resources.expect("resources").devices().clone().expect("rules");
            rules.iter().map(|rule| rule.allow()).collect::<Vec<_>>()
        };
        assert_eq!(rules("c 1:3 rwm\n"), [true]);
        assert_eq!(rules("a *:* rwm\n"), [false, true]);
    }
}
