//! Limits on what the shim reads for an image, each with its reason.

use std::time::Duration;

/// Maximum size of an index or manifest, in bytes. Registries must accept at least this much (OCI distribution
/// specification, "Pushing Manifests"), and containerd has the same limit.
pub const JSON_BYTES: u64 = 4 << 20;

/// Maximum depth of nested indexes. The image specification allows any depth. Tools write one index, or two if an image
/// was copied together with its signatures.
pub const INDEX_DEPTH: usize = 4;

/// Maximum number of manifests with the same config. Tools such as `oras` give all artifacts the same config, so a node
/// has one such manifest for each artifact that it has pulled.
pub const MANIFESTS: usize = 1024;

/// Maximum size of one gRPC answer from containerd, in bytes. It is the most that containerd sends by default. A client's
/// default of 4 MiB can be too small, because a container's record includes its spec.
pub const ANSWER_BYTES: usize = 16 << 20;

/// Time limit for one answer of containerd, or for the next part of a blob. It usually takes milliseconds, but seconds
/// if the node's disk is overloaded.
pub const ANSWER_TIME: Duration = Duration::from_secs(20);

/// Time limit for all answers together. It must be shorter than kubelet's limit of two minutes for creating a container
/// (`runtimeRequestTimeout`), because kubelet's message does not say what the shim waits for.
pub const LOOK_UP_TIME: Duration = Duration::from_secs(40);

/// Time limit for reading an entrypoint's file, or an image's layers. It is enough for 128 MiB from a slow memory card.
pub const READ_TIME: Duration = Duration::from_secs(40);

/// Time limit for finding compiled code. It is short because compiling again takes only seconds.
pub const CACHE_TIME: Duration = Duration::from_secs(5);

/// Time limit for writing compiled code to containerd's content store. A container waits for it.
pub const WRITE_TIME: Duration = Duration::from_secs(30);

/// Time limit for opening the entrypoint's file. An overloaded disk needs less. Only a volume whose server is gone needs
/// longer, and opening a file there never ends.
pub const FILE_TIME: Duration = Duration::from_secs(10);
