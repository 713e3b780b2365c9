//! Reasons why a container cannot run, as its user reads them in `kubectl describe`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rule::Refusal;

/// The image, or what was found in it, cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What the tools of CI refuse as well.
    #[error(transparent)]
    Refused(#[from] Refusal),
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
    #[error("cannot read {name}: it was changed while it was read")]
    Changed {
        /// As in [`Refusal::NotWasm`].
        name: String,
    },
    /// A file that did not open in time.
    #[error("cannot read entrypoint {entrypoint:?} within {} s: its volume may have lost its server", .limit.as_secs())]
    Stuck {
        /// `process.args[0]`.
        entrypoint: String,
        /// How long was waited.
        limit: Duration,
    },
    /// containerd, when asked for the image's layers.
    #[error(
        "entrypoint {entrypoint:?} is not a file in the container, \
         and containerd at {} cannot be asked for the image's wasm layers: {reason}", .socket.display()
    )]
    Containerd {
        /// `process.args[0]`.
        entrypoint: String,
        /// containerd's gRPC socket.
        socket: PathBuf,
        /// Its answer, or what became of it.
        reason: String,
    },
    /// A label of the image.
    #[error(transparent)]
    Label(#[from] provided::SettingError),
    /// containerd, when asked for the labels that a container has of its image.
    #[error("containerd at {} cannot be asked for the image's labels: {reason}", .socket.display())]
    Labels {
        /// containerd's gRPC socket.
        socket: PathBuf,
        /// Its answer, or what became of it.
        reason: String,
    },
    /// containerd, when asked for the annotations of a container's Pod.
    #[error("containerd at {} cannot be asked for the Pod's annotations: {reason}", .socket.display())]
    Annotations {
        /// containerd's gRPC socket.
        socket: PathBuf,
        /// Its answer, or what became of it.
        reason: String,
    },
    /// As many guests as allowed are being compiled.
    #[error(
        "cannot compile the guest: {at_a_time} others are being compiled on this node, which is the limit, and none of \
         them was done within {} s", .within.as_secs()
    )]
    NoTurn {
        /// How many.
        at_a_time: u32,
        /// How long was waited.
        within: Duration,
    },
    /// Several images that CRI knows as one.
    #[error(
        "cannot tell which image the Pod asks for: {images} have the same config ({config}), by which CRI knows an \
         image, and other wasm layers; {why}; build each with a config of its own (`wasm-image build` and `convert` \
         do), or remove all but one of them from the node"
    )]
    Ambiguous {
        /// The digest of their config.
        config: String,
        /// Their names.
        images: String,
        /// Why the name in the Pod does not decide it.
        why: String,
    },
    /// An image that the Pod names by its digest, and another that CRI would run.
    #[error(
        "cannot run {asked}, which the Pod asks for by its digest: the node has no image of that digest with the config \
         {config}, of which CRI makes the container; remove the image from the node (`crictl rmi`), so that it is pulled \
         again"
    )]
    Pinned {
        /// As the Pod has it.
        asked: String,
        /// The digest of the config.
        config: String,
    },
    /// CRI's own record of a container, in a form that is not known.
    #[error("cannot tell which image the Pod asks for: CRI's record of the container: {reason}")]
    Record {
        /// What is wrong with it.
        reason: serde_json::Error,
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
            Error::Refused(Refusal::EntrypointNotFound { .. }) => 127,
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
