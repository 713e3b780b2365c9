//! The config of an image, as the shim reads it.

pub use rule::{Config, is_wasm};
