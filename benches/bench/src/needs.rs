//! Checks what a machine must have, and lists everything that it lacks.

use std::path::Path;

use anyhow::{Result, bail};
use nix::unistd::Uid;
use tests::command::in_path;
use tests::containerd::{Containerd, repository};
use tests::network;

/// Images that the contenders run.
const IMAGES: [&str; 7] = [
    "hello-layer",
    "hello-module",
    "hello-python",
    "hello-http",
    "keyvalue-loop",
    "linux",
    "pause",
];

/// Programs: the contenders, what one of them executes, and what the harness and the scenarios execute.
const PROGRAMS: [&str; 14] = [
    "containerd-shim-wasmtime-v1",
    "containerd-shim-peer-v1",
    "containerd-shim-floor-v1",
    "containerd-shim-runc-v2",
    "runc",
    "wasm-image",
    "wasmtime",
    "ip",
    "timeout",
    "nsenter",
    "setpriv",
    "taskset",
    "wrk",
    "redis-server",
];

/// Plugins of the Pods' network.
const PLUGINS: [&str; 2] = ["bridge", "host-local"];

/// Fails with the list of what is missing.
pub fn check() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine lacks, for the bench:\n  {}", missing.join("\n  "))
}

fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !Uid::effective().is_root() {
        missing.push("the rights of root".into());
    }
    if let Err(error) = Containerd::available() {
        missing.push(format!("containerd: {error}"));
    }
    let programs = PROGRAMS.into_iter().filter(|name| in_path(name).is_none());
    missing.extend(
        programs.map(|name| format!("{name} in PATH; `make bench` builds those of the bench")),
    );
    match network::plugins() {
        Ok(folder) => missing.extend(absent(&folder, &PLUGINS.map(str::to_owned))),
        Err(error) => missing.push(error.to_string()),
    }
    let archives = IMAGES.map(|name| format!("{name}.tar"));
    missing.extend(absent(&repository().join("target/images"), &archives));
    missing
}

fn absent(folder: &Path, names: &[String]) -> Vec<String> {
    let files = names.iter().map(|name| folder.join(name)).filter(|file| !file.is_file());
    files.map(|file| file.display().to_string()).collect()
}
