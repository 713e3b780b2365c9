//! Contenders that are compared.

use anyhow::Result;
use tests::command::in_path;
use tests::{Container, Node};

/// Port on which each server listens.
pub const PORT: u16 = 8080;

/// A shim, as its containerd and CRI know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// This project's.
    Ours,
    /// An older build of this shim, if `containerd-shim-before-v1` is in PATH.
    Before,
    /// The baseline, on the crate `containerd-shim-wasm`.
    Peer,
    /// runc's shim, with static native programs.
    Runc,
    /// A shim that answers at once and runs nothing.
    Floor,
}

impl Contender {
    /// Contenders that run something and are always there.
    pub const REAL: [Contender; 3] = [Contender::Ours, Contender::Peer, Contender::Runc];

    /// Returns the contenders that run something. An older build comes last.
    pub fn real() -> Vec<Contender> {
        Contender::REAL.into_iter().chain(Contender::before()).collect()
    }

    /// Returns the older build, if there is one.
    pub fn before() -> Option<Contender> {
        in_path("containerd-shim-before-v1").map(|_| Contender::Before)
    }

    /// Returns the name in the report.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Ours => "this shim",
            Contender::Before => "before",
            Contender::Peer => "peer",
            Contender::Runc => "runc",
            Contender::Floor => "floor",
        }
    }

    /// Returns the runtime handler.
    pub fn handler(self) -> &'static str {
        match self {
            Contender::Ours => "wasmtime",
            Contender::Before => "before",
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
