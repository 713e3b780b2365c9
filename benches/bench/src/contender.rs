//! Contenders that are compared.

use anyhow::Result;
use tests::{Container, Node};

/// Port on which each server listens.
pub const PORT: u16 = 8080;

/// A shim, as its containerd and CRI know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// This project's.
    Ours,
    /// The baseline, on the crate `containerd-shim-wasm`.
    Peer,
    /// runc's shim, with static native programs.
    Runc,
    /// A shim that answers at once and runs nothing.
    Floor,
}

impl Contender {
    /// Contenders that run something.
    pub const REAL: [Contender; 3] = [Contender::Ours, Contender::Peer, Contender::Runc];

    /// Returns the name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Ours => "this shim",
            Contender::Peer => "peer",
            Contender::Runc => "runc",
            Contender::Floor => "floor",
        }
    }

    /// Returns the runtime handler.
    pub fn handler(self) -> &'static str {
        match self {
            Contender::Ours => "wasmtime",
            Contender::Peer => "peer",
            Contender::Runc => "runc",
            Contender::Floor => "floor",
        }
    }

    /// Returns a container for a Pod that serves HTTP.
    pub fn server(self, node: &Node) -> Result<Container> {
        Ok(match self {
            Contender::Runc => Container::shell("server", &node.image("linux")?, &serve()),
            _ => Container::new("server", &node.image("hello-http")?),
        })
    }
}

/// Returns the shell command that serves HTTP.
pub fn serve() -> String {
    format!("echo hello > /tmp/index.html; exec httpd -f -p {PORT} -h /tmp")
}
