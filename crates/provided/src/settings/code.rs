//! Settings of how a guest's code is made.

use super::{COUNT, Setting, Unset};

/// What a guest may use of WebAssembly.
pub const FEATURES: Setting = Setting {
    key: "wasmtime.shim/features",
    sets: "what the guest may use of WebAssembly beyond version 2.0 and the component model",
    allowed: "wasm3 or names of proposals, with commas between, or nothing; the names are tail-call, extended-const, multi-memory, memory64, relaxed-simd, function-references, gc, exceptions and threads, which are wasm3, and wide-arithmetic and custom-page-sizes",
    unset: Unset::Means(
        "what the label of the image names, or else the node's file, or else as much of `wasm3` as the node's file allows",
    ),
};

/// The same as a label, by which an image declares what its guest needs.
pub const NEEDED_FEATURES: Setting = Setting {
    unset: Unset::Means("what the node's file names, or else as much of `wasm3` as it allows"),
    ..FEATURES
};

/// How much a guest may execute.
pub const FUEL: Setting = Setting {
    key: "wasmtime.shim/fuel",
    sets: "how many units of fuel a run, or a request to a server, may use; a unit is about one instruction",
    allowed: COUNT,
    unset: Unset::Means(
        "what the label of the image says, or else the node's file, or else no limit",
    ),
};

/// The same as a label.
pub const NEEDED_FUEL: Setting =
    Setting { unset: Unset::Means("what the node's file says, or else no limit"), ..FUEL };
