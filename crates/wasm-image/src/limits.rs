//! Limits on what an image or a registry can make this program do, each with its reason.

use std::time::Duration;

/// Largest index, manifest or config, in bytes. Registries must accept at least this much (OCI distribution
/// specification, "Pushing Manifests"), and it is containerd's own limit.
pub const JSON_BYTES: u64 = 4 << 20;

/// Largest blob that is copied, in bytes. Wasm layers have at most 128 MiB. Ordinary layers of a Linux sidecar with a
/// large model have some GB. Anything larger is a mistake.
pub const BLOB_BYTES: u64 = 16 << 30;

/// Most blobs and manifests of one image, all platforms together. This is enough for an index for a dozen platforms,
/// each with the 127 layers that overlayfs can stack.
pub const BLOBS: usize = 4096;

/// Deepest nesting of indexes. The shim follows as many.
pub const INDEX_DEPTH: usize = 4;

/// Largest unpacked size of all layers of an image together when a file is looked for in them, in bytes. A guest's root
/// file system has some MB, and a Linux one seldom a GB. A zip bomb has a thousand times its own size.
pub const UNPACKED_BYTES: u64 = 1 << 30;

/// Most entries of an archive, or of a layer that is searched. A Linux distribution has some ten thousand.
pub const ENTRIES: usize = 1 << 20;

/// Longest time for the creation of a container. The shim gives a compilation five minutes unless it is configured
/// otherwise. Only a machine that is several times slower needs more.
pub const CREATE_TIME: Duration = Duration::from_secs(1830);

/// Time for which containerd keeps what a killed `warm` has left. It is somewhat longer than [`CREATE_TIME`].
pub const LEASE_TIME: Duration = Duration::from_secs(2100);

/// Number of attempts to wait for another `warm`, and the pause between them. Together they are as long as the other
/// may take.
pub const TURNS: u32 = 3660;
pub const TURN: Duration = Duration::from_millis(500);

/// Number of attempts to have containerd remove something that it is busy with, and the pause between them.
pub const ENDING_TURNS: u32 = 100;
pub const ENDING_TURN: Duration = Duration::from_millis(100);

/// Time for an interrupted command to remove what it made on the node.
pub const TIDY_TIME: Duration = Duration::from_secs(30);

/// Size of one request of an upload, in bytes. It is the largest part of a blob that GitHub's registry accepts. Smaller
/// blobs are sent as a whole, which every registry accepts.
pub const CHUNK_BYTES: u64 = 4 << 20;

/// Longest part of a registry's error message that is read, in bytes.
pub const MESSAGE_BYTES: usize = 64 << 10;

/// Time limit for a connection to be made. A satellite link needs two seconds.
pub const CONNECT_TIME: Duration = Duration::from_secs(20);

/// Time without an acknowledgement or data after which a connection counts as cut. A registry needs up to some ten
/// seconds to check a large blob that it has received.
pub const SILENCE: Duration = Duration::from_secs(60);

/// Wait before the second attempt. It doubles with each further attempt.
pub const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Longest wait between attempts, unless the registry asks for more.
pub const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Longest wait that a registry may ask for (HTTP `Retry-After`). Beyond it, CI should rather fail.
pub const LONGEST_ASKED_WAIT: Duration = Duration::from_secs(120);
