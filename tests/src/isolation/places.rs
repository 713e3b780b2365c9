//! Files of the image, directories of the node, and namespaces to join, which generated specs name.
//!
//! A spec has placeholders for them, so that several containers can be made from one spec, side by side. Each container
//! has directories and a cgroup of its own.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

use crate::isolation::keyring;
use crate::wait::{self, SOON};

/// The container's cgroup.
pub(super) const CGROUP: &str = "CGROUP";

/// A directory, one in it, and a file.
pub(super) const PLAIN: &str = "SOURCES/plain";
pub(super) const BELOW: &str = "SOURCES/plain/below";
pub(super) const FILE: &str = "SOURCES/hosts";

/// A shared mount, with another mount in it.
pub(super) const TREE: &str = "SOURCES/tree";

/// A mount on which nothing can be executed.
pub(super) const NO_EXEC: &str = "SOURCES/no-exec";

/// Id of the node that the root of [`Joined`]'s user namespace has.
pub(super) const JOINED_ROOT: u32 = 600_000;

const NONE: Option<&str> = None;

/// The path of a namespace that can be joined.
pub(super) fn namespace(kind: &str) -> String {
    match kind {
        "user" => "/proc/USERS/ns/user".into(),
        "pid" => "/proc/JOINED/ns/pid_for_children".into(),
        "network" => "/proc/JOINED/ns/net".into(),
        kind => format!("/proc/JOINED/ns/{kind}"),
    }
}

/// Processes with namespaces to join. They end with the thread that made them.
#[derive(Debug)]
pub struct Joined {
    /// Network, IPC, UTS and PID namespaces of their own.
    pub others: Child,
    /// A user namespace of its own.
    pub users: Child,
    /// The session keyring that everything inherits which this program starts.
    pub keyring: String,
}

impl Joined {
    /// Starts the processes, and waits until the namespaces are there.
    pub fn start() -> Result<Self> {
        let start = |kinds: &[&str]| {
            let mut command = Command::new("setpriv");
            command
                .args(["--pdeathsig", "KILL", "unshare"])
                .args(kinds)
                .args(["sleep", "infinity"]);
            command.stdin(Stdio::null()).spawn().context("start setpriv")
        };
        let kinds = ["--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child"];
        let keyring = String::new();
        let mut joined = Self { others: start(&kinds)?, users: start(&["--user"])?, keyring };
        for (child, kind) in [(&joined.others, "pid_for_children"), (&joined.users, "user")] {
            let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
            let pid = child.id().to_string();
            wait::until(SOON, "the namespaces", || {
                Ok(of(&pid).filter(|own| Some(own) != of("self").as_ref()).map(drop))
            })?;
        }
        for kind in ["uid_map", "gid_map"] {
            let map = format!("0 {JOINED_ROOT} 65536");
            fs::write(format!("/proc/{}/{kind}", joined.users.id()), map)?;
        }
        joined.keyring = keyring::of(joined.others.id())?;
        Ok(joined)
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        for child in [&mut self.others, &mut self.users] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The directories of one container, which are taken away with it.
#[derive(Debug)]
pub struct Places {
    folder: PathBuf,
    cgroup: String,
}

impl Places {
    /// Lays out the directories in `folder`, and the image's files in `image`, which belong to `root`.
    pub fn lay_out(folder: &Path, image: &Path, cgroup: &str, root: u32) -> Result<Self> {
        fs::set_permissions(folder, Permissions::from_mode(0o755))?;
        lay_out_image(image)?;
        let places = Self { folder: folder.to_owned(), cgroup: cgroup.to_owned() };
        places.lay_out_sources()?;
        if root != 0 {
            give_to(image, root)?;
        }
        Ok(places)
    }

    fn at(&self, source: &str) -> PathBuf {
        self.folder.join(source)
    }

    fn lay_out_sources(&self) -> Result<()> {
        for source in [BELOW, TREE, NO_EXEC] {
            fs::create_dir_all(self.at(source))?;
        }
        fs::write(self.at(PLAIN).join("file"), "of a volume")?;
        fs::write(self.at(FILE), "127.0.0.1 localhost")?;
        self.mount(&self.at(TREE), MsFlags::empty())?;
        mount(NONE, &self.at(TREE), NONE, MsFlags::MS_SHARED, NONE)?;
        for name in ["below", "empty"] {
            fs::create_dir(self.at(TREE).join(name))?;
        }
        self.mount(&self.at(TREE).join("below"), MsFlags::empty())?;
        let none = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        self.mount(&self.at(NO_EXEC), none)
    }

    fn mount(&self, at: &Path, flags: MsFlags) -> Result<()> {
        let kind = Some("tmpfs");
        mount(kind, at, kind, flags, Some("size=1m,mode=755"))
            .with_context(|| at.display().to_string())
    }

    /// The spec with the places of this container and the namespaces of `joined`.
    pub fn fill_in(&self, config: &Value, joined: &Joined) -> Result<Value> {
        let sources = self.folder.join("SOURCES").display().to_string();
        let text = config.to_string().replace("SOURCES", &sources).replace(CGROUP, &self.cgroup);
        let text = text.replace("JOINED", &joined.others.id().to_string());
        Ok(serde_json::from_str(&text.replace("USERS", &joined.users.id().to_string()))?)
    }

    /// Takes away what is mounted here, the last first; what the container's mounts were passed on to, too.
    pub fn unmount(&self) -> Result<()> {
        let own = format!("{}/", self.folder.display());
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        let own: Vec<&str> = points.filter(|point| point.starts_with(&own)).collect();
        for point in own.into_iter().rev() {
            // One below another may have gone with it.
            let _ = umount2(point, MntFlags::MNT_DETACH);
        }
        Ok(())
    }
}

fn lay_out_image(image: &Path) -> Result<()> {
    for directory in [
        "data/below",
        "read",
        "work/secret",
        "tmp",
        "etc",
        "var/cache/deep",
        "closed",
        "away-to",
        "proc",
        "sys",
        "dev",
    ] {
        fs::create_dir_all(image.join(directory))?;
    }
    for (file, mode) in [
        ("data/file", 0o644),
        ("data/below/run", 0o4755),
        ("work/secret/key", 0o600),
        ("work/hidden", 0o644),
        ("work/kept", 0o666),
        ("etc/passwd", 0o644),
        ("var/cache/deep/file", 0o640),
    ] {
        fs::write(image.join(file), file)?;
        fs::set_permissions(image.join(file), Permissions::from_mode(mode))?;
    }
    chown(image.join("var/cache/deep/file"), Some(1000), Some(5))?;
    for (directory, mode) in [("closed", 0o700), ("tmp", 0o1777), ("work", 0o777)] {
        fs::set_permissions(image.join(directory), Permissions::from_mode(mode))?;
    }
    symlink("data", image.join("link"))?;
    symlink("/away-to", image.join("away"))?;
    symlink("deep/file", image.join("var/cache/link"))?;
    Ok(())
}

/// Gives a tree to the root of a user namespace, as a snapshotter does.
fn give_to(path: &Path, root: u32) -> Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    lchown(path, Some(root), Some(root))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            give_to(&entry?.path(), root)?;
        }
    } else if metadata.is_file() {
        // A change of owner takes the bits that lend rights away.
        fs::set_permissions(path, metadata.permissions())?;
    }
    Ok(())
}
