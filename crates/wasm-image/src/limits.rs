//! The limits on what an image or a registry makes this program do, each with its reason.

use std::time::Duration;

/// The largest index, manifest or config, in bytes: what registries must accept at least (OCI
/// distribution specification, "Pushing Manifests") and containerd's own limit.
pub const JSON_BYTES: u64 = 4 << 20;

/// The largest blob that is copied, in bytes. Wasm layers have at most 128 MiB; ordinary layers of a
/// Linux sidecar with a large model have some GB, and those of more are mistakes.
pub const BLOB_BYTES: u64 = 16 << 30;

/// Blobs and manifests of one image, all platforms together: an index for a dozen platforms, each of
/// the 127 layers that overlayfs can stack, and some to spare.
pub const BLOBS: usize = 4096;

/// Indexes inside indexes; the shim follows as many.
pub const INDEX_DEPTH: usize = 4;

/// What layers are unpacked to when a file is looked for in them, in bytes, all layers of an image
/// together. A guest's root file system has some MB and a Linux one seldom a GB; a zip bomb has a thousand times its size.
pub const UNPACKED_BYTES: u64 = 1 << 30;

/// Entries of an archive, or of a layer that is looked through: a Linux distribution has some ten thousand.
pub const ENTRIES: usize = 1 << 20;

/// How long the creation of a container may take: the shim gives a compilation five minutes unless it is told otherwise,
/// and who needs more, needs it for a machine that is several times slower.
pub const CREATE_TIME: Duration = Duration::from_secs(1830);

/// How long containerd keeps what a killed `warm` has left: some more than that.
pub const LEASE_TIME: Duration = Duration::from_secs(2100);

/// How often, and after which pause, the turn of another `warm` is waited for: as long as that may take.
pub const TURNS: u32 = 3660;
pub const TURN: Duration = Duration::from_millis(500);

/// How often, and after which pause, containerd is asked to remove what it is busy with.
pub const ENDING_TURNS: u32 = 100;
pub const ENDING_TURN: Duration = Duration::from_millis(100);

/// How long a command that was interrupted may take to remove what it made on the node.
pub const TIDY_TIME: Duration = Duration::from_secs(30);

/// What is sent in one request, in bytes: the largest that GitHub's registry takes of a blob in parts.
/// Smaller blobs are sent as a whole, which every registry takes.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// What is read of a registry's error message, in bytes.
pub const MESSAGE_BYTES: usize = 64 << 10;

/// How long a connection may take to be made. A satellite link needs two seconds.
pub const CONNECT_TIME: Duration = Duration::from_secs(20);

/// How long the other end may acknowledge nothing, or nothing may arrive, before the line counts as cut.
/// A registry needs up to some ten seconds to look at a large blob once it has it.
pub const SILENCE: Duration = Duration::from_secs(60);

/// The wait before the second attempt; it doubles with each further one.
pub const FIRST_WAIT: Duration = Duration::from_millis(500);

/// The longest wait between attempts, unless the registry asks for more.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The longest wait that a registry may ask for (HTTP `Retry-After`) and gets; beyond it, CI had better fail.
pub const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(120);
