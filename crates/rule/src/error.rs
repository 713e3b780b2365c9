//! Why an image cannot run, in the words its user reads in `kubectl describe` and in CI.

use std::path::PathBuf;

/// The image, or what was found in it, cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The entrypoint names a guest, and there is none: neither a file nor wasm layers.
    #[error(
        "entrypoint {entrypoint:?} not found: {looked}, and {image}; \
         give the path of a .wasm file in the image or on a volume, or an image with wasm layers"
    )]
    EntrypointNotFound {
        /// `process.args[0]`.
        entrypoint: String,
        /// Which paths are not there.
        looked: String,
        /// What containerd says of the image.
        image: &'static str,
    },
    /// The entrypoint is a folder, a device, a fifo or a socket.
    #[error("entrypoint {path:?} is {found}; a regular file is wanted")]
    NotAFile {
        /// The path in the container.
        path: PathBuf,
        /// What it is, with its article.
        found: &'static str,
    },
    /// A file or layer that should be wasm is not.
    #[error(
        "{name} is not wasm: it {found}; a module or component is wanted, \
         binary (\\0asm and 4 bytes of version) or text ((module or (component)"
    )]
    NotWasm {
        /// `process.args[0]`, or `layer` and its digest.
        name: String,
        /// What it is in its place.
        found: String,
    },
    /// A layer that should be compressed is not.
    #[error("{name} is not compressed with Zstandard, as its media type says: it {found}")]
    NotCompressed {
        /// `layer` and its digest.
        name: String,
        /// What it is in its place.
        found: String,
    },
    /// Native code compiled elsewhere.
    #[error(
        "{name} holds precompiled native code, which is never run from an image: \
         ship the .wasm it was made from"
    )]
    Precompiled {
        /// As in [`Refusal::NotWasm`].
        name: String,
    },
    /// Wasm beyond the limit.
    #[error("{name} has {bytes} bytes of wasm; at most {limit} are allowed")]
    TooLarge {
        /// As in [`Refusal::NotWasm`], or `the image`.
        name: String,
        /// In bytes.
        bytes: u64,
        /// In bytes.
        limit: u64,
    },
    /// An image in too many parts.
    #[error("the image has {count} wasm layers; at most {limit} are allowed")]
    TooManyLayers {
        /// The image's.
        count: usize,
        /// The limit.
        limit: usize,
    },
}

/// Refuses more wasm than is allowed.
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
