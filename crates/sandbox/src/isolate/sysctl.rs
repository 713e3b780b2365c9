//! Kernel parameters of a container's own namespaces (OCI runtime spec, "Sysctl"; proc(5), `/proc/sys`).

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use nix::unistd::write;
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use super::errors::{Failed, Step};

/// Parameters of an IPC namespace that do not begin with `fs.mqueue.`.
const OF_IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Parameters of a spec, and the directory `/proc/sys` of the host. The container's process sets them, because the kernel uses
/// the namespaces of the process that opens them. It needs the host's directory, because the container has no `/proc`.
#[derive(Debug)]
pub struct Sysctls {
    parameters: HashMap<String, String>,
    directory: OwnedFd,
}

impl Sysctls {
    /// Opens the directory, if the spec has any parameters.
    ///
    /// # Errors
    /// If a parameter is not of a namespace of the container, because it would be set for the whole node.
    pub fn open(linux: &Linux) -> Result<Option<Sysctls>, Failed> {
        let parameters = linux.sysctl().clone().unwrap_or_default();
        for name in parameters.keys() {
            check(name, linux).map_err(Failed::at(Step::Sysctl(name.clone())))?;
        }
        if parameters.is_empty() {
            return Ok(None);
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = open("/proc/sys", flags, Mode::empty());
        let directory = directory.map_err(Failed::at(Step::Sysctl("/proc/sys".into())))?;
        Ok(Some(Sysctls { parameters, directory }))
    }

    /// Sets the parameters. To be called in the container's process.
    pub fn set(&self) -> Result<(), Failed> {
        self.parameters.iter().try_for_each(|(name, value)| {
            let how = OpenHow::new()
                .flags(OFlag::O_WRONLY | OFlag::O_CLOEXEC)
                .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
            let path = path(name);
            let set = openat2(&self.directory, path.as_str(), how)
                .and_then(|file| write(&file, value.as_bytes()));
            set.map(drop).map_err(Failed::at(Step::Sysctl(name.clone())))
        })
    }
}

/// Path of a parameter below `/proc/sys`. Dots separate directories, unless the name has slashes, because the name of an
/// interface may have dots (sysctl(8)).
fn path(name: &str) -> String {
    match name.contains('/') {
        true => name.to_owned(),
        false => name.replace('.', "/"),
    }
}

fn check(name: &str, linux: &Linux) -> Result<(), &'static str> {
    let path = path(name);
    // Such a part would lead to parameters of another directory.
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("it is not the name of a parameter");
    }
    let name = path.replace('/', ".");
    let has = |kind| namespace(linux, kind).is_some();
    let of_ipc = OF_IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
    match name.as_str() {
        _ if of_ipc && has(LinuxNamespaceType::Ipc) => Ok(()),
        _ if of_ipc => Err("the container has the node's IPC namespace"),
        _ if name.starts_with("net.") && !has_own_network(linux) => {
            Err("the container has the node's network namespace")
        }
        _ if name.starts_with("net.") => Ok(()),
        "kernel.domainname" if has(LinuxNamespaceType::Uts) => Ok(()),
        "kernel.hostname" => Err("the spec has hostname for that"),
        _ if name.starts_with("user.") && has(LinuxNamespaceType::User) => Ok(()),
        _ => Err("it applies to the whole node"),
    }
}

fn namespace(linux: &Linux, kind: LinuxNamespaceType) -> Option<Option<&Path>> {
    let mut namespaces = linux.namespaces().iter().flatten();
    let found = namespaces.find(|namespace| namespace.typ() == kind)?;
    Some(found.path().as_deref().filter(|path| !path.as_os_str().is_empty()))
}

/// Whether the container has another network namespace than this process.
fn has_own_network(linux: &Linux) -> bool {
    let identity = |path: &Path| {
        File::open(path).and_then(|file| file.metadata()).map(|it| (it.dev(), it.ino())).ok()
    };
    match namespace(linux, LinuxNamespaceType::Network) {
        None => false,
        Some(None) => true,
        Some(Some(path)) => identity(path) != identity(Path::new("/proc/self/ns/net")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, namespaces: serde_json::Value) -> Option<String> {
        let linux = serde_json::json!({ "sysctl": { name: "1" }, "namespaces": namespaces });
        let linux = serde_json::from_value(linux).expect("valid");
        Sysctls::open(&linux).err().map(|failed| failed.to_string())
    }

    #[test]
    fn only_what_the_containers_own_namespaces_have_is_set() {
        let own = |kind: &str| serde_json::json!([{ "type": kind }]);
        let nodes_network = serde_json::json!([{ "type": "network", "path": "/proc/self/ns/net" }]);
        for (name, kind) in [
            ("net.ipv4.ping_group_range", "network"),
            ("net/ipv4/conf/eth0.1/forwarding", "network"),
            ("kernel.shmmax", "ipc"),
            ("fs.mqueue.msg_max", "ipc"),
            ("kernel.domainname", "uts"),
            ("user.max_user_namespaces", "user"),
        ] {
            assert_eq!(refused(name, own(kind)), None, "{name}");
            assert!(refused(name, own("mount")).is_some(), "{name} was set for the node");
        }
        for name in ["vm.swappiness", "kernel.hostname", "kernel.core_pattern"] {
            assert!(refused(name, own("uts")).is_some(), "{name} was set for the node");
        }
        for name in ["net/../vm/swappiness", "net//core", "net/./core/somaxconn"] {
            assert!(refused(name, own("network")).is_some(), "{name} was taken");
        }
        let text = refused("net.core.somaxconn", nodes_network).expect("the node's");
        assert!(text.contains("net.core.somaxconn") && text.contains("network"), "{text}");
    }
}
