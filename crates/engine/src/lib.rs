//! Wasmtime for guests of a container: compiles in one process, and runs in another.
//!
//! Read in this order: [`Runtime`] here; `world` (what a guest is, from its exports), `compile` and `preinit` (in the
//! worker), `run` (loads the guest of a [`Plan`] in the isolated process, and runs it), `wave` and `numbers`
//! (arguments and results of an export), `http` and `serving` (the server, and its engine), `state` and `files` (what
//! WASI offers), `interfaces` (what else a component may import), `memory`, `time_limit` and `log_rate` (how much a guest
//! may use), `link` (the interfaces that guests are linked to), `guard` and `look_up` (what is granted of the network),
//! `named_path` (files of annotations), `code` (maps compiled code), `error`, `report` and `artifacts` (how failures are
//! reported and what they leave), `output` and `lines` (what a guest, and the runtime about it, writes), `host_calls` and
//! `stderr` (what it did last), `signals`.
//!
//! This crate knows nothing of OCI images or containerd. `unsafe` is denied except in `code`, which maps compiled code;
//! `serving::region` and `serving::slots`, which have the memory of instances; `profile`, which reads the stack of the
//! running guest; `interfaces::types`, where Wasmtime derives it; and
//! `interfaces::nn::hypot`, which takes the place of a function of the C library.

#![deny(unsafe_code)]

mod artifacts;
mod blocking;
mod code;
mod compile;
mod compressed;
mod error;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod guard;
mod host_calls;
mod http;
mod interfaces;
mod lines;
mod link;
mod log_rate;
mod look_up;
mod memory;
mod named_path;
mod numbers;
mod output;
mod preinit;
mod profile;
mod report;
mod run;
mod serving;
mod signals;
mod state;
mod stderr;
mod time_limit;
mod wave;
mod world;

use std::fs::File;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::os::unix::net::UnixListener;
use std::sync::Arc;

use grants::CodeSettings;
use sha2::{Digest, Sha256};
use wasmtime::component::Linker;
use wasmtime::{Config, Engine, OptLevel, WasmBacktraceDetails, WasmFeatures};

pub use compile::{Compiled, Layer};
pub use error::Error;
use plan::{Plan, World};
pub use profile::ask as ask_for_profile;
pub use report::log_panic;
pub use run::Loaded;
pub use signals::ending as ending_signals;
use state::{ModuleState, State};

/// Number of calls in a backtrace, the innermost first.
const FRAMES: usize = 64;

/// Engine and linkers, built once per zygote before it forks. Starts no thread. They are for guests with the default
/// [`CodeSettings`]. For others, it builds further ones.
pub struct Runtime {
    engine: Engine,
    modules: wasmtime::Linker<ModuleState>,
    components: Linker<State>,
}

/// Files and sockets of a run.
pub struct Given {
    /// The compiled code.
    pub code: File,
    /// Socket on which clients may ask for a profile ([`crate::ask_for_profile`]).
    pub profiles: Option<UnixListener>,
    /// The certificates of authorities that the node trusts, in PEM.
    pub roots: Option<File>,
    /// Page map of the process (proc(5)). Without it, a server is slower.
    pub page_map: Option<File>,
}

impl Runtime {
    /// Builds the engine, and linkers with WASI 0.1, 0.2 and 0.3 and `wasi:http` 0.2 and 0.3.
    ///
    /// # Errors
    /// [`Error::Engine`] when Wasmtime does not support this machine.
    pub fn new() -> Result<Runtime, Error> {
        build(&CodeSettings::default()).map_err(|error| Error::Engine(report::one_line(&error)))
    }

    /// Builds engine and linkers for code with these settings.
    fn of(code: &CodeSettings) -> wasmtime::Result<Runtime> {
        let _span = trace::span("engine and linkers of this guest");
        build(code)
    }

    /// Everything that compiled code depends on, except its source: Wasmtime's version, the settings here, and the processor. Code
    /// of one version does not run with another.
    pub fn version(&self) -> String {
        let mut hasher = Hasher(Sha256::new_with_prefix(env!("CARGO_PKG_VERSION")));
        hasher.0.update(serving::SETTINGS);
        self.engine.precompile_compatibility_hash().hash(&mut hasher);
        hex::encode(hasher.0.finalize())
    }
}

/// A digest, because the standard library's hash has only 64 bits.
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

fn build(code: &CodeSettings) -> wasmtime::Result<Runtime> {
    let engine = Engine::new(&config(code))?;
    let modules = link::modules(&engine)?;
    let components = link::components(&engine)?;
    Ok(Runtime { engine, modules, components })
}

/// Enables exactly the proposals that the code may use, and multi-memory, because Wasmtime itself needs it for calls between
/// components.
fn allow(config: &mut Config, code: &CodeSettings) {
    let features = code.features().flags().union(WasmFeatures::MULTI_MEMORY);
    config.wasm_features(WasmFeatures::all(), false).wasm_features(features, true);
}

/// Allocates memory on demand, because a process has a single guest, and a pool would cost its reservation before that starts.
fn config(code: &CodeSettings) -> Config {
    let mut config = Config::new();
    allow(&mut config, code);
    config
        .consume_fuel(code.fuel().is_some())
        .cranelift_opt_level(OptLevel::Speed)
        // For backtraces: positions in the wasm, and in the source if the guest has DWARF. DWARF is only read after a trap.
        .generate_address_map(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(NonZeroUsize::new(FRAMES))
        // This records only what must be known at the moment of a trap. The dump itself is made on request.
        .coredump_on_trap(true)
        .memory_init_cow(true)
        .with_custom_code_memory(Some(Arc::new(code::Mapped)));
    config
}
