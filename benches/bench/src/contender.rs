//! Who takes part, and what each of them runs.

use std::env;
use std::path::PathBuf;

use anyhow::Result;
use tests::{Container, Node};

/// The port that each server listens on.
pub const PORT: u16 = 8080;

/// What a command says.
pub const GREETING: &str = "hello from wasi\n";

/// A shim, as its containerd and CRI know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// This project's.
    Ours,
    /// On the crate `containerd-shim-wasm`.
    Peer,
    /// runc's, with static native programs.
    Runc,
    /// Answers at once and runs nothing.
    Floor,
}

impl Contender {
    /// As the report has it.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Ours => "this shim",
            Contender::Peer => "peer",
            Contender::Runc => "runc",
            Contender::Floor => "floor",
        }
    }

    /// Its runtime handler.
    pub fn handler(self) -> &'static str {
        match self {
            Contender::Ours => "wasmtime",
            Contender::Peer => "peer",
            Contender::Runc => "runc",
            Contender::Floor => "floor",
        }
    }

    /// A server of HTTP, for a Pod.
    pub fn server(self, node: &Node) -> Result<Container> {
        Ok(match self {
            Contender::Runc => Container::shell(
                "server",
                &node.image("linux")?,
                &format!("echo hello > /tmp/index.html; exec httpd -f -p {PORT} -h /tmp"),
            ),
            _ => Container::new("server", &node.image("hello-http")?),
        })
    }
}

/// The shims' binaries, with where each was found.
pub fn programs() -> impl Iterator<Item = (String, Option<PathBuf>)> {
    let names = ["wasmtime-v1", "peer-v1", "floor-v1", "runc-v2"];
    names.into_iter().map(|name| {
        let name = format!("containerd-shim-{name}");
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path).map(|folder| folder.join(&name));
        let found = found.into_iter().find(|path| path.is_file());
        (name, found)
    })
}
