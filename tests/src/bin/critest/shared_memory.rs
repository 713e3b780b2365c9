//! The segments of shared memory (System V) that tests of HostIPC make on the host and leave there.

use std::fs;

use anyhow::{Context, Result};
use tests::command;

/// What a test asks `ipcmk` for, in bytes.
const SIZE: u64 = 1_048_576;

/// Those that are there.
#[derive(Debug)]
pub struct Segments(Vec<String>);

impl Segments {
    /// Looks for segments of that size that nobody is attached to.
    pub fn find() -> Result<Self> {
        let table = fs::read_to_string("/proc/sysvipc/shm")?;
        Ok(Self(table.lines().skip(1).filter_map(abandoned).collect()))
    }

    /// Removes those that have come since.
    pub fn remove_new(&self) -> Result<()> {
        for id in Self::find()?.0.iter().filter(|id| !self.0.contains(id)) {
            command::run("ipcrm", ["--shmem-id", id])?.success().context("ipcrm")?;
        }
        Ok(())
    }
}

/// The segment's id, from a line with `key shmid perms size cpid lpid nattch …`.
fn abandoned(line: &str) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let is_ours = fields.get(3)?.parse() == Ok(SIZE) && *fields.get(6)? == "0";
    is_ours.then(|| fields[1].to_owned())
}
