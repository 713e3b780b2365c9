//! The processes of the machine, as /proc tells.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process that was there a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number on the host.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// The name it gave itself.
    pub name: String,
    /// Its command line, with spaces between the words.
    pub command: String,
}

/// Memory of one process, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of its pages that are in memory.
    pub rss: u64,
    /// The same, with pages that n processes share counted as 1/n.
    pub pss: u64,
    /// Those that no other process shares.
    pub private: u64,
}

/// A file that a process has mapped, and how much of it is in memory: in KiB, all and what it has a copy of.
#[derive(Debug, Clone, Copy)]
pub struct Mapped {
    /// The file.
    pub inode: u64,
    /// All of it.
    pub resident: u64,
    /// What it has a copy of its own of. The rest is the file's, whoever else has looked at the same parts by now.
    pub private: u64,
}

/// All that are there, without those that ended and were not waited for.
pub fn all() -> Vec<Process> {
    all_but(&HashSet::new())
}

/// The same without those of these numbers, which is the faster the more they are.
pub fn all_but(numbers: &HashSet<i32>) -> Vec<Process> {
    let Ok(folder) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| !numbers.contains(pid)).filter_map(Process::at).collect()
}

/// The shim of that Pod: among the processes whose command line has its id, the one that is not
/// another's child.
pub fn shim_of(pod: &str) -> Result<Process> {
    shim_among(&all(), pod)
}

/// The same, among these.
pub fn shim_among(processes: &[Process], pod: &str) -> Result<Process> {
    let of_pod: Vec<_> = processes
        .iter()
        .filter(|process| process.command.contains("containerd-shim"))
        .filter(|process| process.command.contains(pod))
        .collect();
    let is_root = |process: &&Process| of_pod.iter().all(|other| other.pid != process.parent);
    of_pod.iter().copied().find(is_root).cloned().with_context(|| format!("no shim of {pod}"))
}

/// The process and everything below it, parents first.
pub fn family(root: &Process) -> Vec<Process> {
    family_among(&all(), root)
}

/// The same, of these.
pub fn family_among(all: &[Process], root: &Process) -> Vec<Process> {
    let mut family = vec![root.clone()];
    let mut next = 0;
    while let Some(parent) = family.get(next).map(|process| process.pid) {
        family.extend(all.iter().filter(|process| process.parent == parent).cloned());
        next += 1;
    }
    family
}

impl Process {
    /// What it leaves of the processors to others (proc(5), `stat`, field 19).
    pub fn niceness(&self) -> Option<i32> {
        let (_, after) = stat(self.pid)?;
        after.split(' ').nth(16)?.parse().ok()
    }

    /// When it was begun, in ticks since the machine was (proc(5), `stat`, field 22): another process of the same
    /// number has another time.
    pub fn begun(&self) -> Option<u64> {
        let (_, after) = stat(self.pid)?;
        after.split(' ').nth(19)?.parse().ok()
    }

    /// The process of that number.
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

    /// Whether it has a handler for that signal (proc(5), `status`).
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

    /// What it occupies.
    pub fn memory(&self) -> Result<Memory> {
        let rollup = read(self.pid, "smaps_rollup").context("smaps_rollup")?;
        let field = |name| number(&rollup, name).with_context(|| format!("no {name}"));
        let private = field("Private_Clean:")? + field("Private_Dirty:")?;
        Ok(Memory { rss: field("Rss:")?, pss: field("Pss:")?, private })
    }

    /// What it has of a file in that folder (proc(5), `smaps`).
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

    /// How many threads it has.
    pub fn threads(&self) -> Result<u64> {
        let status = read(self.pid, "status").context("status")?;
        number(&status, "Threads:").context("no number of threads")
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> Result<usize> {
        let folder = format!("/proc/{}/fd", self.pid);
        Ok(fs::read_dir(&folder).with_context(|| folder.clone())?.count())
    }

    /// The cgroups it is in, one line for each hierarchy.
    pub fn cgroups(&self) -> Option<String> {
        read(self.pid, "cgroup")
    }

    /// Whether `mark` is in its command line, environment, working directory or cgroups.
    pub fn mentions(&self, mark: &str) -> bool {
        let directory = fs::read_link(format!("/proc/{}/cwd", self.pid)).unwrap_or_default();
        let directory = directory.to_string_lossy().into_owned();
        let texts = [read(self.pid, "environ"), read(self.pid, "cgroup"), Some(directory)];
        self.command.contains(mark) || texts.iter().flatten().any(|text| text.contains(mark))
    }
}

/// `stat` in two parts: up to the name, which may hold anything, and the fields from the third on (proc(5)).
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
