//! Kinds of guests.

use serde::{Deserialize, Serialize};

/// Kind of guest, which decides how it is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum World {
    /// A core module of WASI 0.1: `_start`, or the plan's export.
    Module,
    /// `wasi:cli/command` 0.2.
    Command02,
    /// `wasi:cli/command` 0.3.
    Command03,
    /// `wasi:http/proxy` 0.2.
    HttpProxy02,
    /// `wasi:http/service` 0.3.
    HttpService03,
    /// A component of which the plan's export is called.
    Export,
}

impl From<provided::World> for World {
    fn from(world: provided::World) -> World {
        match world {
            provided::World::HttpService03 => World::HttpService03,
            provided::World::HttpProxy02 => World::HttpProxy02,
            provided::World::Command03 => World::Command03,
            provided::World::Command02 => World::Command02,
        }
    }
}

impl World {
    /// Whether it serves HTTP, until a signal ends it.
    pub fn serves_http(self) -> bool {
        matches!(self, World::HttpProxy02 | World::HttpService03)
    }

    /// Its name, for errors.
    pub fn name(self) -> &'static str {
        match self {
            World::Module => "a command module",
            World::Command02 => provided::World::Command02.name(),
            World::Command03 => provided::World::Command03.name(),
            World::HttpProxy02 => provided::World::HttpProxy02.name(),
            World::HttpService03 => provided::World::HttpService03.name(),
            World::Export => "a function",
        }
    }
}
