//! Limits of this crate, each with its reason.

use std::time::Duration;

/// Size of the largest `config.json`. containerd's own specs have some tens of KiB; etcd limits a Pod to 1.5 MiB.
pub const SPEC_BYTES: u64 = 8 << 20;

/// Size of the largest request or reply on the zygote's socket. A plan has a container's args and env, which etcd limits to
/// 1.5 MiB for a Pod, with JSON's escapes.
pub const MESSAGE_BYTES: u64 = 16 << 20;

/// How much is read of the reason why a process cannot run. The Pod's event shows at most 1 KiB of it.
pub const ERROR_LOG_BYTES: u64 = 4 << 10;

/// Default of the time that a worker may take. A component of 40 MB compiles in about 30 s on a Raspberry Pi 5.
pub const WORKER_TIME: Duration = Duration::from_secs(300);

/// Default of the memory that a worker may write to, in bytes. Cranelift needs about 30 times the size of a
/// large component, of which the largest that is accepted has 128 MiB.
pub const WORKER_MEMORY: u64 = 4 << 30;

/// Address space of a worker beyond its memory, in bytes: Wasmtime reserves 2 GiB to initialise a guest ahead of time.
pub const WORKER_RESERVED: u64 = 4 << 30;

/// Address space that glibc reserves for the heap of each thread. A worker has a thread for each processor.
pub const THREAD_RESERVED: u64 = 128 << 20;

/// Niceness of a worker (nice(2)): half of the highest, so that it leaves the processors to others but still ends in time on a
/// busy node.
pub const WORKER_NICENESS: i32 = 10;

/// Size of the largest file that a worker may write: compiled code has up to ten times the size of the component.
pub const WORKER_FILE_BYTES: u64 = 2 << 30;

/// `oom_score_adj` of a worker (proc(5)): the kernel kills it first when the node's memory runs out. It would inherit the
/// shim's value otherwise, which protects it nearly as well as containerd.
pub const WORKER_OOM_SCORE_ADJ: &str = "1000";

/// User and group of a worker: `nobody`, which has Linux's overflow id.
pub const WORKER_ID: u32 = 65534;

/// Lowest limit of open files while a process is set up: it inherits a few tens of descriptors.
pub const DESCRIPTORS: u64 = 256;

/// How long a call of the OCI runtime, or a guest's Create, may take with its hooks, unless the caller has less time: as long
/// as kubelet waits for an answer (`runtimeRequestTimeout`).
pub const RUNTIME_TIME: Duration = Duration::from_secs(120);

/// How long it may take even if the caller has less time, so that work is finished that is nearly done. The caller deletes the
/// container afterwards.
pub const RUNTIME_LEAST_TIME: Duration = Duration::from_secs(5);

/// How long `delete` of the OCI runtime, or a guest's `poststop` hooks, may take. The container's processes have ended before.
pub const DELETE_TIME: Duration = Duration::from_secs(20);

/// How long a request process may take to clean up when its time is up: processes end, then hooks run or the OCI runtime's
/// `delete`.
pub const CLEANUP_TIME: Duration = Duration::from_secs(60);

/// How long to wait for a terminal after the OCI runtime has ended. It sends the terminal before it ends.
pub const CONSOLE_TIME: Duration = Duration::from_secs(5);

/// How long `features` of the OCI runtime may take: containerd waits for it while it starts.
pub const FEATURES_TIME: Duration = Duration::from_secs(10);

/// How much of the OCI runtime's log is read. Each call has a log of its own, of a few lines.
pub const RUNTIME_LOG_BYTES: u64 = 256 << 10;
