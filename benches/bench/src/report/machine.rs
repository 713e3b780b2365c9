//! Describes the machine and the versions of the measurement.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;
use tests::command;
use tests::containerd::repository;
use tests::processes::machine_memory;

use crate::effort::Bench;

/// The machine and the versions of what ran on it.
#[derive(Debug, Serialize)]
pub struct Machine {
    processor: String,
    cores: usize,
    /// Memory in MiB.
    memory: u64,
    kernel: String,
    /// Version of cgroups: 1 or 2.
    cgroups: u8,
    containerd: String,
    runc: String,
    wasmtime: String,
    /// Version of Wasmtime's own server.
    wasmtime_serve: String,
    /// Version of the crate `containerd-shim-wasm`.
    peer: String,
    /// Number of rounds of each contender.
    rounds: usize,
}

/// Returns the number of processors.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Machine {
    /// Returns a description of this machine.
    pub fn this(bench: &Bench) -> Result<Machine> {
        let kernel = command::run("uname", ["-srm"])?.success()?.stdout;
        let runc = command::run("runc", ["--version"])?.success()?.stdout;
        let serve = command::run("wasmtime", ["--version"])?.success()?.stdout;
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        Ok(Machine {
            processor: proc("cpuinfo", "model name").unwrap_or_else(|_| "unknown".into()),
            cores: processors(),
            memory: machine_memory("MemTotal")? / 1024,
            kernel: kernel.trim().into(),
            cgroups: if unified { 2 } else { 1 },
            containerd: bench.containerd.version.clone(),
            runc: runc.split_whitespace().nth(2).unwrap_or_default().into(),
            wasmtime: locked("Cargo.lock", "wasmtime")?,
            wasmtime_serve: serve.split_whitespace().nth(1).unwrap_or_default().into(),
            peer: locked("benches/peer/Cargo.lock", "containerd-shim-wasm")?,
            rounds: bench.effort.rounds,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { processor, cores, memory, kernel, cgroups, .. } = self;
        writeln!(
            to,
            "Machine: {processor}, {cores} cores, {memory} MiB, {kernel}, cgroups v{cgroups}."
        )?;
        let Machine { containerd, runc, wasmtime, wasmtime_serve, peer, rounds, .. } = self;
        writeln!(
            to,
            "containerd {containerd}, runc {runc}, Wasmtime {wasmtime}, `wasmtime serve` {wasmtime_serve}, \
             containerd-shim-wasm {peer}; {rounds} rounds.\n"
        )
    }
}

/// KiB in a MB, as the figures use it.
pub const MB: f64 = 1e6 / 1024.0;

fn proc(file: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(Path::new("/proc").join(file))?;
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    let value = fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim().into());
    value.with_context(|| format!("{name} in /proc/{file}"))
}

/// Returns the version of a crate in a lock file of the repository.
fn locked(file: &str, name: &str) -> Result<String> {
    let text = fs::read_to_string(repository().join(file))?;
    let after = text.split_once(&format!("name = \"{name}\"\nversion = \"")).map(|it| it.1);
    let version = after.and_then(|after| after.split('"').next());
    version.map(str::to_owned).with_context(|| format!("{name} in {file}"))
}
