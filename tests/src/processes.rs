//! Reads the processes of the machine from /proc.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that existed a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Pid on the host.
    pub pid: i32,
    /// Pid of its parent.
    pub parent: i32,
    /// Name that it gave itself.
    pub name: String,
    /// Command line, with spaces between the words.
    pub command: String,
}

/// Memory of one process, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Resident pages.
    pub rss: u64,
    /// Resident pages, where a page that n processes share counts as 1/n.
    pub pss: u64,
    /// Pages that no other process shares.
    pub private: u64,
}

/// A mapped file of a process, with its resident size and the size of private copies, in KiB.
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    /// Inode of the file.
    pub inode: u64,
    /// Resident size.
    pub resident: u64,
    /// Size of private copies. The rest belongs to the file, whichever other process has read the same parts.
    pub private: u64,
}

/// Returns all processes, without those that have ended and were not reaped.
pub fn all() -> Vec<Process> {
    all_but(&HashSet::new())
}

/// Returns all processes except those with these pids. The more pids are given, the faster it is.
pub fn all_but(numbers: &HashSet<i32>) -> Vec<Process> {
    let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| !numbers.contains(pid)).filter_map(Process::at).collect()
}

/// Returns the shim of that Pod. Of the processes with the Pod's id in their command line, it is the one that is not a
/// child of another.
pub fn shim_of(pod: &str) -> Result<Process> {
    shim_among(&all(), pod)
}

/// As [`shim_of`], among these processes.
pub fn shim_among(processes: &[Process], pod: &str) -> Result<Process> {
    let of_pod: Vec<_> = processes
        .iter()
        .filter(|process| process.command.contains("containerd-shim"))
        .filter(|process| process.command.contains(pod))
        .collect();
    let is_root = |process: &&Process| of_pod.iter().all(|other| other.pid != process.parent);
    of_pod.iter().copied().find(is_root).cloned().with_context(|| format!("no shim of {pod}"))
}

/// Returns the process and everything below it, parents first.
pub fn family(root: &Process) -> Vec<Process> {
    family_among(&all(), root)
}

/// As [`family`], among these processes.
pub fn family_among(all: &[Process], root: &Process) -> Vec<Process> {
    let mut family = vec![root.clone()];
    let mut next = 0;
    while let Some(parent) = family.get(next).map(|process| process.pid) {
        family.extend(all.iter().filter(|process| process.parent == parent).cloned());
        next += 1;
    }
    family
}

/// Returns the number and the first argument of the system call in which a process waits (proc(5), `syscall`).
pub fn system_call(pid: u32) -> Option<(i64, u64)> {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
    let mut words = call.split_whitespace();
    let number = words.next()?.parse().ok()?;
    Some((number, u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?))
}

/// Returns a number of /proc/meminfo, in KiB (proc(5)).
pub fn machine_memory(name: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    number(&text, &format!("{name}:")).with_context(|| format!("{name} in /proc/meminfo"))
}

impl Process {
    /// Returns its niceness (proc(5), `stat`, field 19).
    pub fn niceness(&self) -> Option<i32> {
        let (_, after) = stat(self.pid)?;
        after.split(' ').nth(16)?.parse().ok()
    }

    /// Returns its start time, in ticks since boot (proc(5), `stat`, field 22). A later process with the same pid has
    /// another start time.
    pub fn begun(&self) -> Option<u64> {
        let (_, after) = stat(self.pid)?;
        after.split(' ').nth(19)?.parse().ok()
    }

    /// Returns the process with that pid.
    pub fn at(pid: i32) -> Option<Self> {
        let (before, after) = stat(pid)?;
        let mut fields = after.split(' ');
        let is_zombie = fields.next()? == "Z";
        let process = Self {
            pid,
            parent: fields.next()?.parse().ok()?,
            name: before.split_once('(')?.1.to_owned(),
            command: read(pid, "cmdline")?.trim_end_matches('\0').replace('\0', " "),
        };
        (!is_zombie).then_some(process)
    }

    /// Returns whether it handles that signal (proc(5), `status`).
    pub fn catches(&self, signal: Signal) -> bool {
        let status = read(self.pid, "status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask >> (signal as i32 - 1) & 1 == 1)
    }

    /// Sends a signal.
    pub fn kill(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid), signal).with_context(|| format!("{signal} to {self:?}"))
    }

    /// Returns the memory that it uses.
    pub fn memory(&self) -> Result<Memory> {
        let rollup = read(self.pid, "smaps_rollup").context("smaps_rollup")?;
        let field = |name| number(&rollup, name).with_context(|| format!("no {name}"));
        let private = field("Private_Clean:")? + field("Private_Dirty:")?;
        Ok(Memory { rss: field("Rss:")?, pss: field("Pss:")?, private })
    }

    /// Returns what it has mapped of a file in that directory (proc(5), `smaps`).
    pub fn mapped(&self, folder: &Path) -> Result<Mapped> {
        let inodes: Vec<u64> =
            fs::read_dir(folder)?.map(|it| Ok(it?.metadata()?.ino())).collect::<Result<_>>()?;
        let smaps = read(self.pid, "smaps").context("smaps")?;
        let mut found: Option<Mapped> = None;
        let mut inside = false;
        for line in smaps.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                [range, _, _, _, inode, ..] if range.contains('-') => {
                    let inode = inode.parse()?;
                    inside = inodes.contains(&inode);
                    if inside {
                        found.get_or_insert(Mapped { inode, resident: 0, private: 0 });
                    }
                }
                [field, kib, ..] if inside => {
                    let mapped = found.as_mut().context("nothing mapped")?;
                    match field {
                        "Rss:" => mapped.resident += kib.parse::<u64>()?,
                        "Private_Dirty:" => mapped.private += kib.parse::<u64>()?,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
        found.with_context(|| format!("process {} maps no file of {}", self.pid, folder.display()))
    }

    /// Returns the number of its threads.
    pub fn threads(&self) -> Result<u64> {
        let status = read(self.pid, "status").context("status")?;
        number(&status, "Threads:").context("no number of threads")
    }

    /// Returns the number of its open descriptors.
    pub fn descriptors(&self) -> Result<usize> {
        let folder = format!("/proc/{}/fd", self.pid);
        Ok(fs::read_dir(&folder).with_context(|| folder.clone())?.count())
    }

    /// Returns its cgroups, one line for each hierarchy.
    pub fn cgroups(&self) -> Option<String> {
        read(self.pid, "cgroup")
    }

    /// Returns whether `mark` is in its command line, environment, working directory or cgroups.
    pub fn mentions(&self, mark: &str) -> bool {
        let directory = fs::read_link(format!("/proc/{}/cwd", self.pid)).unwrap_or_default();
        let directory = directory.to_string_lossy().into_owned();
        let texts = [read(self.pid, "environ"), read(self.pid, "cgroup"), Some(directory)];
        self.command.contains(mark) || texts.iter().flatten().any(|text| text.contains(mark))
    }
}

/// Splits `stat` into two parts: up to the name, which may contain anything, and the fields from the third on
/// (proc(5)).
fn stat(pid: i32) -> Option<(String, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(") ")?;
    Some((before.to_owned(), after.to_owned()))
}

fn read(pid: i32, file: &str) -> Option<String> {
    let bytes = fs::read(PathBuf::from(format!("/proc/{pid}")).join(file)).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn number(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
