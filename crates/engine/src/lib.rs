//! Wasmtime for guests of a container: compile in one process, run in another.
//!
//! Read in this order: [`Runtime`] here; `world` (what a guest is, from its exports), `compile` (in the
//! worker), `plan` (everything a run needs, serde), `run` (in the isolated process: commands and exports),
//! `http` (serving), `state` (what WASI offers), `report` (how failures are told), `signals`.
//!
//! Nothing here knows of OCI images or containerd. `unsafe` is denied but for one call of Wasmtime's own in `code`.

#![deny(unsafe_code)]

mod code;
mod compile;
mod http;
mod plan;
mod report;
mod run;
mod signals;
mod state;
mod world;

use wasmtime::component::Linker;
use wasmtime::{Config, Engine, WasmBacktraceDetails};
use wasmtime_wasi::p1::WasiP1Ctx;

pub use compile::Compiled;
pub use plan::{Http, Plan};
use state::State;
pub use world::World;

/// Exit code: the image cannot run (not wasm, damaged, precompiled, an import that is not provided).
pub const CANNOT_RUN: u8 = 126;

/// Exit code: no such entrypoint or export.
pub const NOT_FOUND: u8 = 127;

/// Exit code: the guest trapped (128 + SIGABRT, as of a native program that aborts).
pub const TRAPPED: u8 = 134;

/// Why a guest cannot be compiled, planned or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wasmtime does not start: a setting this machine does not support.
    #[error("wasmtime: {0}")]
    Engine(String),
    /// Neither module nor component, or damaged.
    #[error("the image's wasm is not valid: {0}")]
    Invalid(String),
    /// Native code that was compiled elsewhere.
    #[error("precompiled native code is never run from an image; ship the .wasm it was made from")]
    Precompiled,
    /// An import nothing here provides.
    #[error(
        "{reason}; provided are wasi:cli, clocks, filesystem, http, random and sockets in 0.2 and 0.3, and wasi_snapshot_preview1"
    )]
    Import {
        /// Wasmtime's reason, which names interface and version.
        reason: String,
    },
    /// No such export.
    #[error("no export {wanted:?} that can be called without arguments; there are: {found}")]
    Export {
        /// The export asked for.
        wanted: String,
        /// The exports there are, for the user to choose from.
        found: String,
    },
    /// More than one component layer.
    #[error("the image has {0} wasm layers; this version runs images with one")]
    SeveralLayers(usize),
    /// A setting in the container's env.
    #[error("env {key}={value:?} is not valid; allowed is {allowed}")]
    Setting {
        /// The variable.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

/// Engine and linkers, built once per zygote before it forks. Starts no thread.
pub struct Runtime {
    engine: Engine,
    modules: wasmtime::Linker<WasiP1Ctx>,
    components: Linker<State>,
}

impl Runtime {
    /// Builds the engine, and linkers with WASI 0.1, 0.2 and 0.3 and `wasi:http` 0.2 and 0.3.
    ///
    /// # Errors
    /// [`Error::Engine`] when Wasmtime does not support this machine.
    pub fn new() -> Result<Runtime, Error> {
        build().map_err(|error| Error::Engine(report::one_line(&error)))
    }
}

fn build() -> wasmtime::Result<Runtime> {
    let mut config = Config::new();
    config.wasm_component_model_async(true).wasm_backtrace_details(WasmBacktraceDetails::Enable);
    let engine = Engine::new(&config)?;
    let mut modules = wasmtime::Linker::new(&engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut modules, |context| context)?;
    let mut components = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut components)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut components)?;
    wasmtime_wasi::p3::add_to_linker(&mut components)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut components)?;
    Ok(Runtime { engine, modules, components })
}
