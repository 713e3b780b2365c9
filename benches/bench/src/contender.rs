//! Who takes part.

use anyhow::Result;
use tests::{Container, Node};

use crate::needs;

/// The port that each server listens on.
pub const PORT: u16 = 8080;

/// A shim, as its containerd and CRI know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// This project's.
    Ours,
    /// An older build of it, where `containerd-shim-before-v1` is in PATH.
    Before,
    /// On the crate `containerd-shim-wasm`.
    Peer,
    /// runc's, with static native programs.
    Runc,
    /// Answers at once and runs nothing.
    Floor,
}

impl Contender {
    /// Those that run something, and are always there.
    pub const REAL: [Contender; 3] = [Contender::Ours, Contender::Peer, Contender::Runc];

    /// Those that run something; an older build comes last.
    pub fn real() -> Vec<Contender> {
        Contender::REAL.into_iter().chain(Contender::before()).collect()
    }

    /// The older build, if there is one.
    pub fn before() -> Option<Contender> {
        needs::program("containerd-shim-before-v1").map(|_| Contender::Before)
    }

    /// As the report has it.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Ours => "this shim",
            Contender::Before => "before",
            Contender::Peer => "peer",
            Contender::Runc => "runc",
            Contender::Floor => "floor",
        }
    }

    /// Its runtime handler.
    pub fn handler(self) -> &'static str {
        match self {
            Contender::Ours => "wasmtime",
            Contender::Before => "before",
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
