//! An image's config, as the shim reads it.

pub use rule::{Config, is_wasm};
