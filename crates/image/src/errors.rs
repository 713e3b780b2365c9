//! Why a container cannot run, in the words its user reads in `kubectl describe`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The image, or what was found in it, cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
        /// As in [`Error::NotWasm`].
        name: String,
    },
    /// Wasm beyond the limit.
    #[error("{name} has {bytes} bytes of wasm; at most {limit} are allowed")]
    TooLarge {
        /// As in [`Error::NotWasm`], or `the image`.
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
    /// A file that is there and cannot be read, or a copy that cannot be kept.
    #[error("cannot read {name}: {source}")]
    Read {
        /// Path or digest.
        name: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// A file that was written to while it was read.
    #[error("{name} was changed while it was read")]
    Changed {
        /// As in [`Error::NotWasm`].
        name: String,
    },
    /// A file that did not open in time.
    #[error("entrypoint {entrypoint:?} could not be read within {} s; is its volume's server gone?", .limit.as_secs())]
    Stuck {
        /// `process.args[0]`.
        entrypoint: String,
        /// How long was waited.
        limit: Duration,
    },
    /// containerd, when asked for the image's layers.
    #[error(
        "entrypoint {entrypoint:?} is not a file in the container, \
         and containerd at {} cannot be asked for wasm layers: {reason}", .socket.display()
    )]
    Containerd {
        /// `process.args[0]`.
        entrypoint: String,
        /// containerd's gRPC socket.
        socket: PathBuf,
        /// Its answer, or what became of it.
        reason: String,
    },
    /// A label of the image with a value that it cannot have.
    #[error("label {key} of the image: {value:?}: {expected} is expected")]
    Label {
        /// Its name.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it can have.
        expected: &'static str,
    },
    /// containerd, when asked for the labels that a container has of its image.
    #[error("containerd at {} cannot be asked for the image's labels: {reason}", .socket.display())]
    Labels {
        /// containerd's gRPC socket.
        socket: PathBuf,
        /// Its answer, or what became of it.
        reason: String,
    },
    /// Content that breaks the OCI image specification, or is not in the content store.
    #[error("image content {digest}: {reason}")]
    Content {
        /// The content's digest.
        digest: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// The exit code a shell gives in this case: 127 where there is nothing to run, 126 where there
    /// is and it cannot be.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::EntrypointNotFound { .. } => 127,
            _ => 126,
        }
    }

    pub(crate) fn read(name: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let name = name.into();
        move |source| Error::Read { name, source }
    }

    pub(crate) fn content(digest: impl ToString, reason: impl ToString) -> Error {
        Error::Content { digest: digest.to_string(), reason: reason.to_string() }
    }
}

/// Refuses more wasm than is allowed.
pub(crate) fn within_limit(name: &str, bytes: u64) -> Result<(), Error> {
    let limit = crate::limits::WASM_BYTES;
    if bytes > limit {
        return Err(Error::TooLarge { name: name.to_owned(), bytes, limit });
    }
    Ok(())
}
