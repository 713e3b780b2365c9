//! Reasons why a container cannot run. Users read them in `kubectl describe`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rule::Refusal;

/// Reason why the image, or a file in it, cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The image breaks a rule that the tools for CI check as well.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An existing file cannot be read, or its copy cannot be written.
    #[error("cannot read {name}: {source}")]
    Read {
        /// Path or digest.
        name: String,
        /// Error of the kernel.
        #[source]
        source: io::Error,
    },
    /// A file was changed while it was read.
    #[error("cannot read {name}: it was changed while it was read")]
    Changed {
        /// As in [`Refusal::NotWasm`].
        name: String,
    },
    /// Opening or reading a file took too long.
    #[error("cannot read entrypoint {entrypoint:?} within {} s: its volume may have lost its server", .limit.as_secs())]
    Stuck {
        /// `process.args[0]`.
        entrypoint: String,
        /// Time limit.
        limit: Duration,
    },
    /// containerd did not return the image's layers.
    #[error(
        "entrypoint {entrypoint:?} is not a file in the container, \
         and containerd at {} cannot be asked for the image's wasm layers: {reason}", .socket.display()
    )]
    Containerd {
        /// `process.args[0]`.
        entrypoint: String,
        /// containerd's gRPC socket.
        socket: PathBuf,
        /// containerd's answer, or why there is none.
        reason: String,
    },
    /// A label of the image is invalid.
    #[error(transparent)]
    Label(#[from] provided::SettingError),
    /// containerd did not return the labels that a container has from its image.
    #[error("containerd at {} cannot be asked for the image's labels: {reason}", .socket.display())]
    Labels {
        /// containerd's gRPC socket.
        socket: PathBuf,
        /// containerd's answer, or why there is none.
        reason: String,
    },
    /// containerd did not return the annotations of a container's Pod.
    #[error("containerd at {} cannot be asked for the Pod's annotations: {reason}", .socket.display())]
    Annotations {
        /// containerd's gRPC socket.
        socket: PathBuf,
        /// containerd's answer, or why there is none.
        reason: String,
    },
    /// All compile slots of the node remained in use.
    #[error(
        "cannot compile the guest: {at_a_time} others are being compiled on this node, which is the limit, and none \
         finished within {} s", .within.as_secs()
    )]
    NoCompileSlot {
        /// Number of the node's compile slots.
        at_a_time: u32,
        /// Time limit.
        within: Duration,
    },
    /// CRI knows several images as one.
    #[error(
        "cannot tell which image the Pod asks for: {images} have the same config ({config}), by which CRI knows an \
         image, and other wasm layers; {why}; build each with a config of its own (`wasm-image build` and `convert` \
         do), or remove all but one of them from the node"
    )]
    Ambiguous {
        /// Digest of their config.
        config: String,
        /// Names of the images.
        images: String,
        /// Why the Pod's image name does not decide which image to run.
        why: String,
    },
    /// The Pod names an image by its digest, but CRI would run another image.
    #[error(
        "cannot run {image}, which the Pod asks for by its digest: the node has no image of that digest with the config \
         {config}, of which CRI makes the container; remove the image from the node (`crictl rmi`), so that it is pulled \
         again"
    )]
    Pinned {
        /// Image name, with the digest that the Pod specifies.
        image: String,
        /// Digest of the config.
        config: String,
    },
    /// CRI's own record of a container has an unknown form.
    #[error("cannot tell which image the Pod asks for: CRI's record of the container: {reason}")]
    Record {
        /// Parse error.
        reason: serde_json::Error,
    },
    /// Content breaks the OCI image specification, or is not in the content store.
    #[error("image content {digest}: {reason}")]
    Content {
        /// Digest of the content.
        digest: String,
        /// What is wrong with the content.
        reason: String,
    },
}

impl Error {
    /// Exit code that a shell returns in this case: 127 if the program does not exist, 126 if it cannot run.
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
