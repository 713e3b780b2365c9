//! Wasmtime for guests of a container: compile in one process, run in another.
//!
//! Read in this order: [`Runtime`] here; `world` (what a guest is, from its exports), `compile` and `preinit` (in
//! the worker), `plan` (everything a run needs, serde), `run` (in the isolated process: commands and exports),
//! `wave` and `numbers` (arguments and results of an export), `http` and `serving` (the server, and its engine),
//! `state` and `files` (what WASI offers), `interfaces` (what more a component may import), `memory` (how much a guest may have), `link` (to which interfaces), `code`
//! (mapping it), `error`, `report` and `remains` (how failures are told and what they leave), `output` (what a guest
//! writes), `host_calls` and `stderr` (what it did last), `signals`.
//! And [`quantity`]: how settings are written.
//!
//! Nothing here knows of OCI images or containerd. `unsafe` is denied but in `code`, which maps compiled
//! code, `serving::region` and `serving::slots`, which have the memory of instances, `profile`, which reads the stack
//! of whoever runs it, and `interfaces::types`, where Wasmtime derives it.

#![deny(unsafe_code)]

mod code;
mod compile;
mod compressed;
mod error;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod host_calls;
mod http;
mod interfaces;
mod link;
mod memory;
mod numbers;
mod output;
mod plan;
mod preinit;
mod profile;
pub mod quantity;
mod remains;
mod report;
mod run;
mod serving;
mod signals;
mod state;
mod stderr;
mod wave;
mod world;

use std::fs::File;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, OptLevel, WasmBacktraceDetails, WasmFeatures};

pub use compile::{Compiled, Layer};
pub use error::Error;
pub use http::settings::HttpSettings;
pub use plan::{Plan, environment};
pub use profile::ask as ask_for_profile;
pub use remains::Remains;
pub use signals::ending as ending_signals;
use state::{ModuleState, State};
pub use world::World;

/// Exit code: the image cannot run (not wasm, damaged, precompiled, an import that is not provided).
pub const CANNOT_RUN: u8 = 126;

/// Exit code: no such entrypoint or export.
pub const NOT_FOUND: u8 = 127;

/// Exit code: the arguments of a call are not what the export takes (as a shell has it).
pub const MISUSED: u8 = 2;

/// Exit code: the guest trapped (128 + SIGABRT, as of a native program that aborts).
pub const TRAPPED: u8 = 134;

/// How many calls of a backtrace are told, the innermost first.
const FRAMES: usize = 64;

/// Engine and linkers, built once per zygote before it forks. Starts no thread.
pub struct Runtime {
    engine: Engine,
    modules: wasmtime::Linker<ModuleState>,
    components: Linker<State>,
}

/// What a run is given beside its plan.
pub struct Given {
    /// The compiled code.
    pub code: File,
    /// Whoever connects to it may ask for a profile ([`crate::ask_for_profile`]).
    pub profiles: Option<UnixListener>,
    /// The certificates of authorities that the node trusts, in PEM.
    pub roots: Option<File>,
    /// The page map of the process that runs (proc(5)). Without it a server takes longer.
    pub page_map: Option<File>,
}

impl Runtime {
    /// Builds the engine, and linkers with WASI 0.1, 0.2 and 0.3 and `wasi:http` 0.2 and 0.3.
    ///
    /// # Errors
    /// [`Error::Engine`] when Wasmtime does not support this machine.
    pub fn new() -> Result<Runtime, Error> {
        build().map_err(|error| Error::Engine(report::one_line(&error)))
    }

    /// What compiled code depends on beside what it is compiled from: Wasmtime's version, the settings here, the
    /// processor. Code of one version does not run with another.
    pub fn version(&self) -> String {
        let mut hasher = Hasher(Sha256::new_with_prefix(env!("CARGO_PKG_VERSION")));
        hasher.0.update(serving::SETTINGS);
        self.engine.precompile_compatibility_hash().hash(&mut hasher);
        hex::encode(hasher.0.finalize())
    }
}

/// A digest in place of the standard library's 64 bits.
struct Hasher(Sha256);

impl std::hash::Hasher for Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

fn build() -> wasmtime::Result<Runtime> {
    let engine = Engine::new(&config())?;
    let modules = link::modules(&engine)?;
    let components = link::components(&engine)?;
    Ok(Runtime { engine, modules, components })
}

/// Memory is allocated on demand: a pool costs its reservation before the first guest, and here is one guest.
fn config() -> Config {
    let mut config = Config::new();
    config
        // Exactly the proposals that `provided` lists, whatever Wasmtime's defaults are.
        .wasm_features(WasmFeatures::all(), false)
        .wasm_features(provided::wasm::FEATURES, true)
        .cranelift_opt_level(OptLevel::Speed)
        // For backtraces: where in the wasm, and where in the source if the guest has DWARF, which is read
        // only after a trap.
        .generate_address_map(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES))
        // Only what has to be known of one at the moment of a trap: it is put together where it was asked for.
        .coredump_on_trap(true)
        .memory_init_cow(true)
        .with_custom_code_memory(Some(Arc::new(code::Mapped)));
    config
}
