//! Reasons why a guest cannot be compiled or run.

use plan::exit_code::{CANNOT_RUN, MISUSED, NOT_FOUND};

/// Why a guest cannot be compiled or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wasmtime does not start: a setting this machine does not support.
    #[error("cannot start Wasmtime: {0}")]
    Engine(String),
    /// Neither a module nor a component, in binary or text; with how it begins.
    #[error(
        "the image's entrypoint is not wasm: it begins with \"{0}\"; allowed are modules and components, as .wasm or .wat"
    )]
    NotWasm(String),
    /// Memory ran out while the guest was compiled.
    #[error("cannot compile the guest: not enough memory")]
    Memory,
    /// Truncated, damaged, or of a WebAssembly proposal that is not supported.
    #[error("cannot run the image's wasm: {0}")]
    Wasm(#[from] provided::wasm::Refusal),
    /// Of a WebAssembly proposal that is off.
    #[error("cannot run the image's wasm: {refusal}; {remedy}")]
    Off {
        /// What is off.
        refusal: provided::wasm::Refusal,
        /// What would turn it on.
        remedy: String,
    },
    /// Beyond Wasmtime's limits, such as those of memory; with Wasmtime's reason.
    #[error("cannot compile the image's wasm: {0}")]
    Compile(String),
    /// A compressed layer that is damaged.
    #[error("cannot unpack the image's layer from Zstandard: {0}")]
    Compressed(String),
    /// Native code that was compiled elsewhere.
    #[error(
        "the image's entrypoint is native or precompiled code, which is never run as wasm; ship the .wasm it was made from"
    )]
    Precompiled,
    /// An import that this runtime does not provide.
    #[error("{reason}; provided are {provided}")]
    Import {
        /// Wasmtime's reason, which names interface and version.
        reason: String,
        /// The interfaces that this runtime provides.
        provided: &'static str,
    },
    /// No such export.
    #[error(
        "cannot call {wanted:?}: there is no export of that name that can be called; allowed is {found}"
    )]
    Export {
        /// The export asked for.
        wanted: String,
        /// The exports there are, for the user to choose from.
        found: String,
    },
    /// No entry by which it runs by itself: it is a library, or a reactor.
    #[error(
        "there is no export {wanted}, by which the guest would run by itself; one of its own exports is called by an entrypoint \
         such as \"PATH#{example}\"; allowed is {found}"
    )]
    Library {
        /// The entry.
        wanted: &'static str,
        /// The name of an export that can be called.
        example: String,
        /// The exports that can be called.
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
        /// The function's name and types.
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
    /// A component that cannot be initialised before it is compiled.
    #[error(
        "cannot call the guest's export \"wizer-initialize\" before it is compiled, as wasmtime.shim/preinit asks: {0}"
    )]
    Initialise(String),
}

impl Error {
    /// The container's exit code where this is found only when it runs: [`NOT_FOUND`], [`MISUSED`] or
    /// [`CANNOT_RUN`].
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Export { .. } | Error::Library { .. } => NOT_FOUND,
            Error::Arguments { .. } => MISUSED,
            _ => CANNOT_RUN,
        }
    }
}
