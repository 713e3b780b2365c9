//! Reasons why an image cannot run, as the user reads them in `kubectl describe` and in CI.

use std::path::PathBuf;

/// A reason why the image, or something in it, cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The entrypoint names a guest, but there is no such file and no wasm layer.
    #[error(
        "entrypoint {entrypoint:?} not found: {looked}, and {image}; \
         give the path of a .wasm file in the image or on a volume, or an image with wasm layers"
    )]
    EntrypointNotFound {
        /// `process.args[0]`.
        entrypoint: String,
        /// The paths that do not exist.
        looked: String,
        /// Why the image has no wasm layers.
        image: &'static str,
    },
    /// The entrypoint is a directory, a device, a fifo or a socket.
    #[error("entrypoint {path:?} is {found}; it must be a regular file")]
    NotAFile {
        /// The path in the container.
        path: PathBuf,
        /// What is there, with its article.
        found: &'static str,
    },
    /// A file or layer that must be wasm is not.
    #[error(
        "{name} is not wasm: it {found}; it must be a module or component in \
         binary (\\0asm and 4 bytes of version) or text ((module or (component)"
    )]
    NotWasm {
        /// `process.args[0]`, or `layer` and its digest.
        name: String,
        /// What the content is instead, as the end of a sentence.
        found: String,
    },
    /// A layer that must be compressed is not.
    #[error("{name} is not compressed with Zstandard, as its media type says: it {found}")]
    NotCompressed {
        /// `layer` and its digest.
        name: String,
        /// What the content is instead, as the end of a sentence.
        found: String,
    },
    /// The file is native code that was compiled elsewhere.
    #[error(
        "{name} is precompiled native code, which is never run from an image: \
         ship the .wasm it was made from"
    )]
    Precompiled {
        /// As in [`Refusal::NotWasm`].
        name: String,
    },
    /// There is more wasm than the limit allows.
    #[error("{name} has {bytes} bytes of wasm; allowed is at most {limit}")]
    TooLarge {
        /// As in [`Refusal::NotWasm`], or `the image`.
        name: String,
        /// Size in bytes.
        bytes: u64,
        /// Limit in bytes.
        limit: u64,
    },
    /// The image has too many wasm layers.
    #[error("the image has {count} wasm layers; allowed is at most {limit}")]
    TooManyLayers {
        /// Number of wasm layers.
        count: usize,
        /// Limit.
        limit: usize,
    },
}

/// Refuses more wasm than the limit allows.
///
/// # Errors
/// [`Refusal::TooLarge`].
pub fn within_limit(name: &str, bytes: u64) -> Result<(), Refusal> {
    let limit = provided::WASM_BYTES;
    if bytes > limit {
        return Err(Refusal::TooLarge { name: name.to_owned(), bytes, limit });
    }
    Ok(())
}
