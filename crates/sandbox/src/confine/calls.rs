//! The system calls that a guest's process may make, by purpose. All others fail with EPERM.
//!
//! The list was found by tracing the stories, and by reading Wasmtime, cap-std, rustix, tokio, hyper, redb, std and glibc.
//! It has the calls of x86_64 and of aarch64, where some older ones do not exist, and those of several versions of glibc.
//! A new entry needs a purpose: which function of WASI, or of the runtime, fails without it?

use libc::{c_int, c_ulong};

/// Calls that are allowed whatever their arguments are, with their purpose.
pub const ALLOWED: &[(&str, &[&str])] = &[
    (
        "memory: linear memories, stacks and the heap; which of their pages are in use; data that is mapped copy-on-write",
        &["brk", "madvise", "memfd_create", "mincore", "mmap", "mprotect", "mremap", "munmap"],
    ),
    (
        "threads: their start, what they wait for, and the processors that they may use",
        &[
            "exit",
            "exit_group",
            "futex",
            "getcpu",
            "gettid",
            "membarrier",
            "restart_syscall",
            "rseq",
            "sched_getaffinity",
            "sched_yield",
            "set_robust_list",
            "set_tid_address",
        ],
    ),
    (
        "signals: traps, the signals that end a guest, and the profiler's",
        &[
            "rt_sigaction",
            "rt_sigprocmask",
            "rt_sigreturn",
            "rt_sigtimedwait",
            "setitimer",
            "sigaltstack",
            "signalfd4",
        ],
    ),
    (
        "event loops and pipes between threads",
        &[
            "epoll_create1",
            "epoll_ctl",
            "epoll_pwait",
            "epoll_pwait2",
            "epoll_wait",
            "eventfd2",
            "pipe2",
            "poll",
            "ppoll",
            "pselect6",
            "select",
        ],
    ),
    (
        "wasi:clocks and wasi:random, and the time that something took",
        &[
            "clock_getres",
            "clock_gettime",
            "clock_nanosleep",
            "getrandom",
            "getrusage",
            "gettimeofday",
            "nanosleep",
            "time",
            "times",
        ],
    ),
    (
        "descriptors: streams of wasi:cli, files and sockets",
        &["close", "close_range", "dup", "dup2", "dup3", "read", "readv", "write", "writev"],
    ),
    (
        "wasi:filesystem, the key-value store, the termination message and the core dump",
        &[
            "access",
            "copy_file_range",
            "faccessat",
            "faccessat2",
            "fadvise64",
            "fallocate",
            "fdatasync",
            "flock",
            "fstat",
            "fstatfs",
            "fsync",
            "ftruncate",
            "getcwd",
            "getdents64",
            "linkat",
            "lseek",
            "lstat",
            "mkdir",
            "mkdirat",
            "newfstatat",
            "open",
            "openat",
            "openat2",
            "pread64",
            "preadv",
            "preadv2",
            "pwrite64",
            "pwritev",
            "pwritev2",
            "readlink",
            "readlinkat",
            "rename",
            "renameat",
            "renameat2",
            "rmdir",
            "sendfile",
            "stat",
            "statfs",
            "statx",
            "symlinkat",
            "unlink",
            "unlinkat",
            "utimensat",
        ],
    ),
    (
        "wasi:sockets, wasi:http, the server, and the look-up of names",
        &[
            "accept",
            "accept4",
            "bind",
            "connect",
            "getpeername",
            "getsockname",
            "getsockopt",
            "listen",
            "recvfrom",
            "recvmmsg",
            "recvmsg",
            "sendmmsg",
            "sendmsg",
            "sendto",
            "shutdown",
        ],
    ),
    (
        "what the process and the machine are: limits, ids, names",
        &[
            "getegid",
            "geteuid",
            "getgid",
            "getpid",
            "getppid",
            "getrlimit",
            "getuid",
            "sysinfo",
            "uname",
        ],
    ),
];

/// Calls that fail as on a kernel that does not have them, because the C library then makes older calls whose arguments can be
/// checked, or because it expects that answer of an old kernel.
pub const UNKNOWN: &[&str] = &["clone3"];

/// Calls from this number on (Linux 5.17) fail in the same way. The numbers are the same on all processors.
pub const FIRST_UNKNOWN: u32 = 450;

/// In place of the process's own id, which is not known when the filter is made.
pub const OWN_PROCESS: u32 = 0x7fff_fffe;

/// Calls that are allowed if the arguments are those of one of the cases.
pub const CHECKED: &[(&str, &str, &[Case])] = &[
    ("threads, and no processes or namespaces", "clone", &[&[bits(0, THREAD | PROCESS, THREAD)]]),
    ("abort(3)", "tgkill", &[&[is(0, OWN_PROCESS as c_int)]]),
    (
        "a thread's name, and glibc's names of its memory",
        "prctl",
        &[&[is(0, libc::PR_SET_NAME)], &[is(0, libc::PR_GET_NAME)], &[is(0, libc::PR_SET_VMA)]],
    ),
    ("read a limit of this process", "prlimit64", &[&[is(0, 0), is_null(2)]]),
    (
        "pool of instances: give back memory of this process (`PIDFD_SELF`)",
        "process_madvise",
        &[&[is(0, PIDFD_SELF), is(3, libc::MADV_DONTNEED)]],
    ),
    (
        "TCP and UDP",
        "socket",
        &[
            &[is(0, libc::AF_INET), is_type(libc::SOCK_STREAM), is(2, 0)],
            &[is(0, libc::AF_INET), is_type(libc::SOCK_STREAM), is(2, libc::IPPROTO_TCP)],
            &[is(0, libc::AF_INET), is_type(libc::SOCK_DGRAM), is(2, 0)],
            &[is(0, libc::AF_INET), is_type(libc::SOCK_DGRAM), is(2, libc::IPPROTO_UDP)],
            &[is(0, libc::AF_INET6), is_type(libc::SOCK_STREAM), is(2, 0)],
            &[is(0, libc::AF_INET6), is_type(libc::SOCK_STREAM), is(2, libc::IPPROTO_TCP)],
            &[is(0, libc::AF_INET6), is_type(libc::SOCK_DGRAM), is(2, 0)],
            &[is(0, libc::AF_INET6), is_type(libc::SOCK_DGRAM), is(2, libc::IPPROTO_UDP)],
        ],
    ),
    (
        "event loops of tokio, which wake each other",
        "socketpair",
        &[&[is(0, libc::AF_UNIX), is_type(libc::SOCK_STREAM)]],
    ),
    (
        "options that wasi:sockets, the server, clients and the look-up of names set",
        "setsockopt",
        &[
            &[is(1, libc::SOL_SOCKET), is(2, libc::SO_BROADCAST)],
            &[is(1, libc::SOL_SOCKET), is(2, libc::SO_KEEPALIVE)],
            &[is(1, libc::SOL_SOCKET), is(2, libc::SO_LINGER)],
            &[is(1, libc::SOL_SOCKET), is(2, libc::SO_RCVBUF)],
            &[is(1, libc::SOL_SOCKET), is(2, libc::SO_RCVTIMEO)],
            &[is(1, libc::SOL_SOCKET), is(2, libc::SO_REUSEADDR)],
            &[is(1, libc::SOL_SOCKET), is(2, libc::SO_SNDBUF)],
            &[is(1, libc::SOL_SOCKET), is(2, libc::SO_SNDTIMEO)],
            &[is(1, libc::SOL_TCP), is(2, libc::TCP_KEEPCNT)],
            &[is(1, libc::SOL_TCP), is(2, libc::TCP_KEEPIDLE)],
            &[is(1, libc::SOL_TCP), is(2, libc::TCP_KEEPINTVL)],
            &[is(1, libc::SOL_TCP), is(2, libc::TCP_NODELAY)],
            &[is(1, libc::SOL_IP), is(2, libc::IP_MTU_DISCOVER)],
            &[is(1, libc::SOL_IP), is(2, libc::IP_RECVERR)],
            &[is(1, libc::SOL_IP), is(2, libc::IP_TTL)],
            &[is(1, libc::SOL_IPV6), is(2, libc::IPV6_MTU_DISCOVER)],
            &[is(1, libc::SOL_IPV6), is(2, libc::IPV6_RECVERR)],
            &[is(1, libc::SOL_IPV6), is(2, libc::IPV6_UNICAST_HOPS)],
            &[is(1, libc::SOL_IPV6), is(2, libc::IPV6_V6ONLY)],
        ],
    ),
    (
        "flags of descriptors, their copies, seals of data that is mapped copy-on-write, and the key-value store's lock",
        "fcntl",
        &[
            &[is(1, libc::F_DUPFD)],
            &[is(1, libc::F_DUPFD_CLOEXEC)],
            &[is(1, libc::F_GETFD)],
            &[is(1, libc::F_SETFD)],
            &[is(1, libc::F_GETFL)],
            &[is(1, libc::F_SETFL)],
            &[is(1, libc::F_ADD_SEALS)],
            &[is(1, libc::F_GET_SEALS)],
            &[is(1, libc::F_OFD_GETLK)],
            &[is(1, libc::F_OFD_SETLK)],
        ],
    ),
    (
        "whether a stream is a terminal, its size, how much can be read, and calls that do not wait",
        "ioctl",
        &[
            &[is_request(libc::TCGETS)],
            &[is_request(libc::TIOCGWINSZ)],
            &[is_request(libc::FIONREAD)],
            &[is_request(libc::FIONBIO)],
            &[is_request(libc::FIOCLEX)],
        ],
    ),
    (
        "the filter of `super::seal`, which then refuses this call",
        "seccomp",
        &[&[is(0, libc::SECCOMP_SET_MODE_FILTER as c_int)]],
    ),
];

/// Calls of the second filter, which allows all others.
pub const SEALED: &[(&str, &[Case])] = &[
    ("mmap", &[&[bits(2, EXECUTABLE, 0)]]),
    ("mprotect", &[&[bits(2, EXECUTABLE, 0)]]),
    // Never.
    ("seccomp", &[]),
];

/// Conditions that must all hold.
pub type Case = &'static [Condition];

/// Condition of an argument: its bits of `mask` are those of `value`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Index of the argument.
    pub argument: u32,
    /// Bits that matter.
    pub mask: u64,
    /// Their value.
    pub value: u64,
}

/// This process, in place of a descriptor (pidfd_open(2)).
const PIDFD_SELF: c_int = -10000;

/// Flags of a new thread, as of every C library (clone(2)).
const THREAD: u64 = (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD) as u64;

/// Flags that no thread has: namespaces, and other parents and tracers.
const PROCESS: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_PTRACE
    | libc::CLONE_PARENT
    | libc::CLONE_UNTRACED
    | libc::CLONE_VFORK) as u32 as u64;

/// All bits of an int. The kernel ignores the others.
const INT: u64 = 0xffff_ffff;

/// Protection of memory (mmap(2)).
const EXECUTABLE: u64 = libc::PROT_EXEC as u64;

/// Bits of a socket's type; the others are flags (socket(2)).
const TYPE: u64 = 0xf;

const fn bits(argument: u32, mask: u64, value: u64) -> Condition {
    Condition { argument, mask, value }
}

const fn is(argument: u32, value: c_int) -> Condition {
    bits(argument, INT, value.cast_unsigned() as u64)
}

const fn is_null(argument: u32) -> Condition {
    bits(argument, u64::MAX, 0)
}

const fn is_type(value: c_int) -> Condition {
    bits(1, TYPE, value.cast_unsigned() as u64)
}

const fn is_request(value: c_ulong) -> Condition {
    bits(1, INT, value)
}
