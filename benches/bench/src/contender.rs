//! Who takes part.

use anyhow::Result;
use tests::{Container, Node};

/// The port that each server listens on.
pub const PORT: u16 = 8080;

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
    /// Those who run something.
    pub const REAL: [Contender; 3] = [Contender::Ours, Contender::Peer, Contender::Runc];

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
            Contender::Runc => Container::shell("server", &node.image("linux")?, &serve()),
            _ => Container::new("server", &node.image("hello-http")?),
        })
    }
}

/// What a shell does to serve HTTP.
pub fn serve() -> String {
    format!("echo hello > /tmp/index.html; exec httpd -f -p {PORT} -h /tmp")
}
