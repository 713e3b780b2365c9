//! The limits of this crate, each with its reason.

use std::time::Duration;

/// The largest `config.json` read. containerd's own specs are some tens of KiB; etcd, and so a Pod, stops at 1.5 MiB.
pub const SPEC_BYTES: u64 = 8 << 20;

/// The largest request or reply on the zygote's socket. A plan carries a container's args and env, which a
/// Pod bounds at etcd's 1.5 MiB, once more with JSON's escapes.
pub const MESSAGE_BYTES: u64 = 16 << 20;

/// How much is read of the reason why a process cannot run. It ends in an event of the Pod, of at most 1 KiB.
pub const ERROR_LOG_BYTES: u64 = 4 << 10;

/// How long a worker may take, unless told otherwise. A component of 40 MB compiles in about 30 s on a Raspberry Pi 5.
pub const WORKER_TIME: Duration = Duration::from_secs(300);

/// Memory of a worker that it may write to, in bytes, unless told otherwise. Cranelift needs about 30 times the size of a
/// large component, and 128 MiB are compiled at most.
pub const WORKER_MEMORY: u64 = 4 << 30;

/// Address space of a worker beyond that, in bytes: Wasmtime reserves 2 GiB where a guest is initialised ahead.
pub const WORKER_RESERVED: u64 = 4 << 30;

/// And what glibc reserves at a time for the heap of each of its threads, of which there is one for each processor.
pub const THREAD_RESERVED: u64 = 128 << 20;

/// What a worker leaves of the processors to others (nice(2)): half way to the least there is, so that it ends in time
/// on a busy node.
pub const WORKER_NICENESS: i32 = 10;

/// What a worker may write to its output: compiled code is up to ten times the component.
pub const WORKER_FILE_BYTES: u64 = 2 << 30;

/// How readily the kernel ends a worker when the node's memory runs out (`oom_score_adj`, proc(5)): first.
/// Otherwise it would have the shim's, which protects it nearly as well as containerd.
pub const WORKER_OOM_SCORE_ADJ: &str = "1000";

/// The user and group a worker runs as: `nobody`, by Linux's overflow id.
pub const WORKER_ID: u32 = 65534;

/// Limit of open files, at least, while a process is set up: it inherits a few tens of descriptors.
pub const DESCRIPTORS: u64 = 256;

/// How long one call of the OCI runtime may take, or a guest's Create, unless its caller has less time: as long as kubelet
/// waits for an answer (`runtimeRequestTimeout`). Hooks of the container are part of it.
pub const RUNTIME_TIME: Duration = Duration::from_secs(120);

/// How long it may take at least: what is nearly done is done, although its caller has lost patience, who then has it deleted.
pub const RUNTIME_LEAST_TIME: Duration = Duration::from_secs(5);

/// How long its `delete` may take, or a guest's hooks for the end. The container's processes have ended before.
pub const DELETE_TIME: Duration = Duration::from_secs(20);

/// How long a request's process may take, when its time is up, to take back what it has made: the processes end, and then
/// there are hooks or the OCI runtime's `delete`.
pub const CLEANUP_TIME: Duration = Duration::from_secs(60);

/// How long a terminal is waited for after the OCI runtime has ended, which sends it before.
pub const CONSOLE_TIME: Duration = Duration::from_secs(5);

/// How long its `features` may take: containerd waits for them while it starts.
pub const FEATURES_TIME: Duration = Duration::from_secs(10);

/// How much of its log is read. Each call has one of its own, of a few lines.
pub const RUNTIME_LOG_BYTES: u64 = 256 << 10;
