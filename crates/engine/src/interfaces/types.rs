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

/// `tensor-type` of `wasi:nn/tensor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "Wasmtime makes one of its number")]
pub enum TensorType {
    /// Floating point of 16 bits (IEEE 754 binary16).
    #[component(name = "FP16")]
    Fp16,
    /// Floating point of 32 bits.
    #[component(name = "FP32")]
    Fp32,
    /// Floating point of 64 bits.
    #[component(name = "FP64")]
    Fp64,
    /// The upper half of one of 32 bits.
    #[component(name = "BF16")]
    Bf16,
    /// A byte.
    #[component(name = "U8")]
    U8,
    /// An integer of 32 bits with a sign.
    #[component(name = "I32")]
    I32,
    /// An integer of 64 bits with a sign.
    #[component(name = "I64")]
    I64,
}

/// `graph-encoding` of `wasi:nn/graph`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "Wasmtime makes one of its number")]
pub enum Encoding {
    /// OpenVINO.
    #[component(name = "openvino")]
    Openvino,
    /// ONNX.
    #[component(name = "onnx")]
    Onnx,
    /// TensorFlow.
    #[component(name = "tensorflow")]
    Tensorflow,
    /// PyTorch.
    #[component(name = "pytorch")]
    Pytorch,
    /// TensorFlow Lite.
    #[component(name = "tensorflowlite")]
    Tensorflowlite,
    /// GGML.
    #[component(name = "ggml")]
    Ggml,
    /// The host finds out.
    #[component(name = "autodetect")]
    Autodetect,
}

/// `execution-target` of `wasi:nn/graph`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "Wasmtime makes one of its number")]
pub enum Target {
    /// The processor.
    #[component(name = "cpu")]
    Cpu,
    /// A graphics processor.
    #[component(name = "gpu")]
    Gpu,
    /// A processor of tensors.
    #[component(name = "tpu")]
    Tpu,
}

/// `error-code` of `wasi:nn/errors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lower)]
#[component(enum)]
#[repr(u8)]
#[allow(dead_code, reason = "all codes of the interface, in its order")]
pub enum Code {
    /// An argument that does not suit the model.
    #[component(name = "invalid-argument")]
    InvalidArgument,
    /// A model that cannot be read.
    #[component(name = "invalid-encoding")]
    InvalidEncoding,
    /// It took too long.
    #[component(name = "timeout")]
    Timeout,
    /// The inference failed.
    #[component(name = "runtime-error")]
    RuntimeError,
    /// Something that is not provided.
    #[component(name = "unsupported-operation")]
    UnsupportedOperation,
    /// It needs more memory than there is.
    #[component(name = "too-large")]
    TooLarge,
    /// There is no model of that name.
    #[component(name = "not-found")]
    NotFound,
    /// It is not allowed.
    #[component(name = "security")]
    Security,
    /// Any other reason.
    #[component(name = "unknown")]
    Unknown,
}
