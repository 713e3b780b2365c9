//! Removes the segments of shared memory (System V) that tests of HostIPC make on the host and leave there.

use std::fs;

use anyhow::{Context, Result};
use tests::command;

/// Size that a test requests from `ipcmk`, in bytes.
const SIZE: u64 = 1_048_576;

/// The segments that exist.
#[derive(Debug)]
pub struct Segments(Vec<String>);

impl Segments {
    /// Finds segments of that size to which nothing is attached.
    pub fn find() -> Result<Self> {
        let table = fs::read_to_string("/proc/sysvipc/shm")?;
        Ok(Self(table.lines().skip(1).filter_map(abandoned).collect()))
    }

    /// Removes the segments that were added since.
    pub fn remove_new(&self) -> Result<()> {
        for id in Self::find()?.0.iter().filter(|id| !self.0.contains(id)) {
            command::run("ipcrm", ["--shmem-id", id])?.success().context("ipcrm")?;
        }
        Ok(())
    }
}

/// Returns the segment's id, from a line with `key shmid perms size cpid lpid nattch …`.
fn abandoned(line: &str) -> Option<String> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let is_ours = fields.get(3)?.parse() == Ok(SIZE) && *fields.get(6)? == "0";
    is_ours.then(|| fields[1].to_owned())
}
