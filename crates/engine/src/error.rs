//! Why a guest cannot be compiled, planned or run.

use crate::{CANNOT_RUN, MISUSED, NOT_FOUND};

/// Why a guest cannot be compiled, planned or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wasmtime does not start: a setting this machine does not support.
    #[error("wasmtime: {0}")]
    Engine(String),
    /// Neither a module nor a component, in binary or text; with how it begins.
    #[error(
        "the image's entrypoint is not wasm: it begins with \"{0}\"; allowed are modules and components, as .wasm or .wat"
    )]
    NotWasm(String),
    /// Memory ran out while it was compiled.
    #[error("there is not enough memory to compile it")]
    Memory,
    /// Truncated, damaged, or of a WebAssembly proposal that is not supported.
    #[error("the image's wasm cannot run: {0}")]
    Wasm(#[from] provided::wasm::Refusal),
    /// Beyond what Wasmtime compiles, of memory for instance; with its reason.
    #[error("the image's wasm cannot be compiled: {0}")]
    Compile(String),
    /// A layer that is compressed, and not as it should be.
    #[error("the image's layer cannot be unpacked from Zstandard: {0}")]
    Compressed(String),
    /// Native code that was compiled elsewhere.
    #[error(
        "the image's entrypoint is native or precompiled code, which is never run as wasm; ship the .wasm it was made from"
    )]
    Precompiled,
    /// An import nothing here provides.
    #[error("{reason}; provided are {provided}")]
    Import {
        /// Wasmtime's reason, which names interface and version.
        reason: String,
        /// What this runtime has instead.
        provided: &'static str,
    },
    /// No such export.
    #[error("no export {wanted:?} that can be called; there are: {found}")]
    Export {
        /// The export asked for.
        wanted: String,
        /// The exports there are, for the user to choose from.
        found: String,
    },
    /// The arguments of a call are not what the function takes. An argument may be a secret, so its text is not here.
    #[error("argument {argument}, column {column}: {reason}; the function is {signature}")]
    Arguments {
        /// Position of the argument, from 1.
        argument: usize,
        /// Byte in that argument, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
        /// What the function takes.
        signature: String,
    },
    /// An export with the name of a world's entry, which is not what that world says.
    #[error("the component's entry is not that of {world}: {reason}")]
    World {
        /// The world its export's name belongs to.
        world: &'static str,
        /// What differs.
        reason: String,
    },
    /// Several layers that cannot be composed.
    #[error(transparent)]
    Compose(#[from] compose::Error),
    /// An annotation of the Pod, or a variable of the container's environment.
    #[error(transparent)]
    Setting(#[from] provided::SettingError),
    /// A component that cannot be initialised before it is compiled.
    #[error(
        "it cannot be initialised ahead, as wasmtime.shim/preinit asks, by its export wizer-initialize: {0}"
    )]
    Initialise(String),
}

impl Error {
    /// The container's exit code where this is found only when it runs: [`NOT_FOUND`], [`MISUSED`] or
    /// [`CANNOT_RUN`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Export { .. } => NOT_FOUND,
            Error::Arguments { .. } => MISUSED,
            _ => CANNOT_RUN,
        }
    }
}
