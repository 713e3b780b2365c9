//! Cgroups that a test makes itself, as an administrator would.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::wait::{self, SOON};

/// Directory of the hierarchies: one directory each (v1), or the single hierarchy itself (v2).
const HIERARCHIES: &str = "/sys/fs/cgroup";

/// Files that must be set in an empty `cpuset` cgroup before a process may join it (cpuset(7)).
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Makes a cgroup with that path in every hierarchy, and returns its directories.
pub fn create(path: &str) -> Result<Vec<PathBuf>> {
    let path = path.trim_start_matches('/');
    let mut made = Vec::new();
    for hierarchy in hierarchies()? {
        let mut folder = hierarchy.clone();
        for name in Path::new(path) {
            let parent = folder.clone();
            folder.push(name);
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
            for file in CPUSET.into_iter().filter(|file| parent.join(file).exists()) {
                fs::write(folder.join(file), fs::read(parent.join(file))?)?;
            }
        }
        made.push(folder);
    }
    Ok(made)
}

/// Returns the directories of the cgroup with that path.
pub fn existing(path: &str) -> Result<Vec<PathBuf>> {
    let folders = hierarchies()?.into_iter().map(|hierarchy| hierarchy.join(path));
    Ok(folders.filter(|folder| folder.exists()).collect())
}

/// Gives a cgroup the weight of this many threads that are in no cgroup (cgroups(7), "cpu").
pub fn weigh(path: &str, threads: usize) -> Result<()> {
    for folder in existing(path.trim_start_matches('/'))? {
        for (file, of_a_thread) in [("cpu.shares", 1024), ("cpu.weight", 100)] {
            let file = folder.join(file);
            if file.exists() {
                let weight = of_a_thread * threads;
                fs::write(&file, weight.to_string()).with_context(|| file.display().to_string())?;
            }
        }
    }
    Ok(())
}

/// Limits the memory of a cgroup and everything below it, in bytes.
pub fn limit_memory(path: &str, bytes: i64) -> Result<()> {
    let (hierarchy, file) = match is_unified() {
        true => ("", "memory.max"),
        false => ("memory", "memory.limit_in_bytes"),
    };
    let file = Path::new(HIERARCHIES).join(hierarchy).join(path.trim_start_matches('/')).join(file);
    fs::write(&file, bytes.to_string()).with_context(|| file.display().to_string())
}

/// Variable with the driver of Pods' cgroups: `cgroupfs`, or `systemd` on a machine with v2 alone.
const DRIVER: &str = "WASMTIME_SHIM_TEST_CGROUPS";

/// Returns whether systemd should make the cgroups of Pods (kubelet's `cgroupDriver: systemd`).
pub fn by_systemd() -> Result<bool> {
    match env::var(DRIVER).as_deref() {
        Err(_) | Ok("cgroupfs") => Ok(false),
        Ok("systemd") if is_unified() => Ok(true),
        Ok("systemd") => bail!("{DRIVER}=systemd needs a machine with cgroup v2 alone"),
        Ok(other) => bail!("{DRIVER}={other:?}: allowed are cgroupfs and systemd"),
    }
}

/// Returns systemd's slice above the slice of that name: `a.slice` above `a-b.slice` (systemd.slice(5)).
pub fn slice_above(name: &str) -> String {
    format!("{}.slice", name.split('-').next().unwrap_or(name))
}

/// Returns whether this machine has only the hierarchy of v2.
pub fn is_unified() -> bool {
    Path::new(HIERARCHIES).join("cgroup.controllers").exists()
}

/// Reads a file in the cgroup of a process. On v1 it is in that hierarchy, and on v2 it has another name.
pub fn read(pid: i32, (controller, v1): (&str, &str), v2: &str) -> Result<String> {
    let of_process = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = |names: &str| {
        let mut lines = of_process.lines().map(|line| line.splitn(3, ':'));
        lines.find_map(|mut line| {
            (line.nth(1)?.split(',').any(|it| it == names)).then(|| line.next())?
        })
    };
    let root = Path::new(HIERARCHIES);
    let file = match is_unified() {
        true => root.join(path("").unwrap_or_default().trim_start_matches('/')).join(v2),
        false => {
            let path = path(controller).with_context(|| format!("no {controller}"))?;
            root.join(controller).join(path.trim_start_matches('/')).join(v1)
        }
    };
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    Ok(text.trim().to_owned())
}

/// Removes a cgroup and those below it. All of them must be empty.
pub fn remove_tree(path: &str) -> Result<()> {
    existing(path.trim_start_matches('/'))?.iter().try_for_each(|folder| remove_below(folder))
}

fn remove_below(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten().filter(|entry| entry.path().is_dir()) {
        remove_below(&entry.path())?;
    }
    remove(&[folder.to_owned()])
}

/// Removes cgroups once their last process has left.
pub fn remove(folders: &[PathBuf]) -> Result<()> {
    for folder in folders {
        wait::until(SOON, &format!("{} to be empty", folder.display()), || {
            Ok(fs::remove_dir(folder).ok())
        })?;
    }
    Ok(())
}

fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = PathBuf::from(HIERARCHIES);
    if is_unified() {
        return Ok(vec![root]);
    }
    let folders = fs::read_dir(root)?.flatten().map(|entry| entry.path());
    // Links name the same hierarchy twice.
    Ok(folders.filter(|path| path.is_dir() && !path.is_symlink()).collect())
}
