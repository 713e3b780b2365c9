//! Limits on what an image makes the shim read, each with its reason.

use std::time::Duration;

/// The largest index or manifest, in bytes: what registries must accept at least (OCI distribution
/// specification, "Pushing Manifests") and containerd's own limit.
pub const JSON_BYTES: u64 = 4 << 20;

/// Indexes inside indexes. The image specification allows any depth; tools write one, and two where
/// an image was copied together with its signatures.
pub const INDEX_DEPTH: usize = 4;

/// Manifests of one config. The images that tools make with the same one, such as `oras`, are
/// artifacts: each that a node has pulled.
pub const MANIFESTS: usize = 1024;

/// One gRPC answer from containerd, in bytes: the largest it sends unless configured otherwise. A
/// container's record includes its spec, and the 4 MiB a client accepts by default can be too few.
pub const ANSWER_BYTES: usize = 16 << 20;

/// How long containerd may take for one answer, or for the next part of a blob. It needs
/// milliseconds; seconds pass on a node whose disk is overloaded.
pub const ANSWER_TIME: Duration = Duration::from_secs(20);

/// How long all of it may take. kubelet gives up on a container's creation after two minutes
/// (`runtimeRequestTimeout`), and its own message would not say what was waited for.
pub const LOOK_UP_TIME: Duration = Duration::from_secs(40);

/// How long reading an entrypoint's file, or an image's layers, may take: 128 MiB from the slowest card there is.
pub const READ_TIME: Duration = Duration::from_secs(40);

/// How long it may take to find compiled code: to compile anew takes seconds.
pub const CACHE_TIME: Duration = Duration::from_secs(5);

/// How long it may take to keep compiled code in containerd's content store. Meanwhile a container waits.
pub const KEEP_TIME: Duration = Duration::from_secs(30);

/// How long the entrypoint's file may take to open. Only a volume on a server that is gone needs
/// longer than an overloaded disk, and that one never ends.
pub const FILE_TIME: Duration = Duration::from_secs(10);
