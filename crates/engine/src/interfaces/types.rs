//! The types of these interfaces, as they are in WIT. Wasmtime derives the code that passes them, and that code is
//! `unsafe`.
#![allow(unsafe_code)]

use wasmtime::component::{ComponentType, Lift, Lower, Resource};

use super::keyvalue::atomics::Cas;

/// `error` of `wasi:config/store`, and `config-error` of its draft `wasi:config/runtime`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub enum ConfigError {
    /// A value that cannot be passed.
    #[component(name = "upstream")]
    Upstream(String),
    /// A file that cannot be read.
    #[component(name = "io")]
    Io(String),
}

/// `error` of `wasi:keyvalue/store`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lower)]
#[component(variant)]
pub enum StoreError {
    /// There is no store of that name.
    #[component(name = "no-such-store")]
    NoSuchStore,
    /// The container may not use its file.
    #[component(name = "access-denied")]
    AccessDenied,
    /// Any other reason.
    #[component(name = "other")]
    Other(String),
}

/// `cas-error` of `wasi:keyvalue/atomics`.
#[derive(Debug, ComponentType, Lower)]
#[component(variant)]
pub enum CasError {
    /// One of the store.
    #[component(name = "store-error")]
    Store(StoreError),
    /// The value has changed; a new handle, for another attempt.
    #[component(name = "cas-failed")]
    Failed(Resource<Cas>),
}

/// `key-response` of `wasi:keyvalue/store@0.2.0-draft`.
#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub struct KeysDraft {
    /// Some keys.
    pub keys: Vec<String>,
    /// To go on with, if there are more.
    pub cursor: Option<u64>,
}

/// `key-response` of `wasi:keyvalue/store@0.2.0-draft2`.
#[derive(Debug, ComponentType, Lower)]
#[component(record)]
pub struct KeysDraft2 {
    /// Some keys.
    pub keys: Vec<String>,
    /// To go on with, if there are more.
    pub cursor: Option<String>,
}

/// `level` of `wasi:logging/logging`.
#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "Wasmtime makes one of its number")]
pub enum Level {
    /// The least.
    #[component(name = "trace")]
    Trace,
    /// For who looks for a fault.
    #[component(name = "debug")]
    Debug,
    /// For who watches.
    #[component(name = "info")]
    Info,
    /// A hazard.
    #[component(name = "warn")]
    Warn,
    /// A failure.
    #[component(name = "error")]
    Error,
    /// The end.
    #[component(name = "critical")]
    Critical,
}
