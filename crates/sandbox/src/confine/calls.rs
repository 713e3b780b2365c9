//! The system calls that a guest's process may make, by purpose. All others fail with EPERM.
//!
//! The list was found by tracing the stories, and by reading Wasmtime, cap-std, rustix, tokio, hyper, redb, std and glibc.
//! It has the calls of several versions of glibc, on x86_64 and aarch64.
//! A new entry needs a purpose: which function of WASI, or of the runtime, fails without it?

use libc::{c_int, c_long, c_ulong};

/// Calls that are allowed whatever their arguments are, with their purpose.
pub const ALLOWED: &[(&str, &[c_long])] = &[
    (
        "memory: linear memories, stacks and the heap; which of their pages are in use; data that is mapped copy-on-write",
        &[
            libc::SYS_brk,
            libc::SYS_madvise,
            libc::SYS_memfd_create,
            libc::SYS_mincore,
            libc::SYS_mmap,
            libc::SYS_mprotect,
            libc::SYS_mremap,
            libc::SYS_munmap,
        ],
    ),
    (
        "threads: their start, what they wait for, and the processors that they may use",
        &[
            libc::SYS_exit,
            libc::SYS_exit_group,
            libc::SYS_futex,
            libc::SYS_getcpu,
            libc::SYS_gettid,
            libc::SYS_membarrier,
            libc::SYS_restart_syscall,
            libc::SYS_rseq,
            libc::SYS_sched_getaffinity,
            libc::SYS_sched_yield,
            libc::SYS_set_robust_list,
            libc::SYS_set_tid_address,
        ],
    ),
    (
        "signals: traps, the signals that end a guest, and the profiler's",
        &[
            libc::SYS_rt_sigaction,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rt_sigreturn,
            libc::SYS_rt_sigtimedwait,
            libc::SYS_setitimer,
            libc::SYS_sigaltstack,
            libc::SYS_signalfd4,
        ],
    ),
    (
        "event loops and pipes between threads",
        &[
            libc::SYS_epoll_create1,
            libc::SYS_epoll_ctl,
            libc::SYS_epoll_pwait,
            libc::SYS_epoll_pwait2,
            libc::SYS_eventfd2,
            libc::SYS_pipe2,
            libc::SYS_ppoll,
            libc::SYS_pselect6,
        ],
    ),
    (
        "wasi:clocks and wasi:random, and the time that something took",
        &[
            libc::SYS_clock_getres,
            libc::SYS_clock_gettime,
            libc::SYS_clock_nanosleep,
            libc::SYS_getrandom,
            libc::SYS_getrusage,
            libc::SYS_gettimeofday,
            libc::SYS_nanosleep,
            libc::SYS_times,
        ],
    ),
    (
        "descriptors: streams of wasi:cli, files and sockets",
        &[
            libc::SYS_close,
            libc::SYS_close_range,
            libc::SYS_dup,
            libc::SYS_dup3,
            libc::SYS_read,
            libc::SYS_readv,
            libc::SYS_write,
            libc::SYS_writev,
        ],
    ),
    (
        "wasi:filesystem, the key-value store, the termination message and the core dump",
        &[
            libc::SYS_copy_file_range,
            libc::SYS_faccessat,
            libc::SYS_faccessat2,
            libc::SYS_fadvise64,
            libc::SYS_fallocate,
            libc::SYS_fchdir,
            libc::SYS_fdatasync,
            libc::SYS_flock,
            libc::SYS_fstat,
            libc::SYS_fstatfs,
            libc::SYS_fsync,
            libc::SYS_ftruncate,
            libc::SYS_getcwd,
            libc::SYS_getdents64,
            libc::SYS_linkat,
            libc::SYS_lseek,
            libc::SYS_mkdirat,
            libc::SYS_newfstatat,
            libc::SYS_openat,
            libc::SYS_openat2,
            libc::SYS_pread64,
            libc::SYS_preadv,
            libc::SYS_preadv2,
            libc::SYS_pwrite64,
            libc::SYS_pwritev,
            libc::SYS_pwritev2,
            libc::SYS_readlinkat,
            libc::SYS_renameat2,
            libc::SYS_sendfile,
            libc::SYS_statfs,
            libc::SYS_statx,
            libc::SYS_symlinkat,
            libc::SYS_unlinkat,
            libc::SYS_utimensat,
        ],
    ),
    (
        "wasi:sockets, wasi:http, the server, and the look-up of names",
        &[
            libc::SYS_accept,
            libc::SYS_accept4,
            libc::SYS_bind,
            libc::SYS_connect,
            libc::SYS_getpeername,
            libc::SYS_getsockname,
            libc::SYS_getsockopt,
            libc::SYS_listen,
            libc::SYS_shutdown,
        ],
    ),
    (
        "what the process and the machine are: limits, ids, names",
        &[
            libc::SYS_getegid,
            libc::SYS_geteuid,
            libc::SYS_getgid,
            libc::SYS_getpid,
            libc::SYS_getppid,
            libc::SYS_getuid,
            libc::SYS_sysinfo,
            libc::SYS_uname,
        ],
    ),
];

/// Older forms of such calls, of which other kinds of processors have fewer; and uretprobe, which the kernel itself has a process
/// make that an administrator traces (Linux 6.11).
#[cfg(target_arch = "x86_64")]
pub const OLDER: &[c_long] = &[
    libc::SYS_access,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
    libc::SYS_unlink,
    335,
];

/// Older forms of such calls: renameat(2), which `libc` does not name there.
#[cfg(not(target_arch = "x86_64"))]
pub const OLDER: &[c_long] = &[38];

/// Calls that fail as on a kernel that does not have them, because the C library then makes older calls whose arguments can be
/// checked, or because it expects that answer of an old kernel.
pub const UNKNOWN: &[c_long] = &[libc::SYS_clone3];

/// Calls from this number on (Linux 5.17) fail in the same way. The numbers are the same on all processors.
pub const FIRST_UNKNOWN: u32 = 450;

/// In place of the process's own id, which is not known when the filter is made.
pub const OWN_PROCESS: u32 = 0x7fff_fffe;

/// Purpose of the calls that receive and send. Nothing needs out-of-band data, by which code has attacked the kernel.
const NO_OUT_OF_BAND: &str =
    "wasi:sockets, wasi:http, the server, and the look-up of names: data that is not out of band";

/// Calls that are allowed if the arguments are those of one of the cases.
pub const CHECKED: &[(&str, c_long, &[Case])] = &[
    (
        "threads, and no processes or namespaces",
        libc::SYS_clone,
        &[&[bits(0, THREAD | PROCESS, THREAD)]],
    ),
    ("abort(3)", libc::SYS_tgkill, &[&[is(0, OWN_PROCESS as c_int)]]),
    (
        "a thread's name, and glibc's names of its memory",
        libc::SYS_prctl,
        &[&[is(0, libc::PR_SET_NAME)], &[is(0, libc::PR_GET_NAME)], &[is(0, libc::PR_SET_VMA)]],
    ),
    ("read a limit of this process", libc::SYS_prlimit64, &[&[is(0, 0), is_null(2)]]),
    (
        "TCP and UDP",
        libc::SYS_socket,
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
    (NO_OUT_OF_BAND, libc::SYS_recvfrom, &[&[bits(3, OUT_OF_BAND, 0)]]),
    (NO_OUT_OF_BAND, libc::SYS_recvmmsg, &[&[bits(3, OUT_OF_BAND, 0)]]),
    (NO_OUT_OF_BAND, libc::SYS_recvmsg, &[&[bits(2, OUT_OF_BAND, 0)]]),
    (NO_OUT_OF_BAND, libc::SYS_sendmmsg, &[&[bits(3, OUT_OF_BAND, 0)]]),
    (NO_OUT_OF_BAND, libc::SYS_sendmsg, &[&[bits(2, OUT_OF_BAND, 0)]]),
    (NO_OUT_OF_BAND, libc::SYS_sendto, &[&[bits(3, OUT_OF_BAND, 0)]]),
    (
        "the pipe of tokio by which it would learn of signals, which is made before `super::seal`",
        libc::SYS_socketpair,
        &[&[is(0, libc::AF_UNIX), is_type(libc::SOCK_STREAM)]],
    ),
    (
        "options that wasi:sockets, the server, clients and the look-up of names set",
        libc::SYS_setsockopt,
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
        libc::SYS_fcntl,
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
        libc::SYS_ioctl,
        &[
            &[is_request(libc::TCGETS)],
            &[is_request(libc::TCGETS2)],
            &[is_request(libc::TIOCGWINSZ)],
            &[is_request(libc::FIONREAD)],
            &[is_request(libc::FIONBIO)],
            &[is_request(libc::FIOCLEX)],
        ],
    ),
    (
        "the filter of `super::seal`, which then refuses this call",
        libc::SYS_seccomp,
        &[&[is(0, libc::SECCOMP_SET_MODE_FILTER as c_int)]],
    ),
];

/// Calls of the second filter, which allows all others.
pub const SEALED: &[(c_long, &[Case])] = &[
    (libc::SYS_mmap, &[&[bits(2, EXECUTABLE, 0)]]),
    (libc::SYS_mprotect, &[&[bits(2, EXECUTABLE, 0)]]),
    // Never.
    (libc::SYS_seccomp, &[]),
    (libc::SYS_socketpair, &[]),
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

/// Flag of data that is out of band (send(2), recv(2)).
const OUT_OF_BAND: u64 = libc::MSG_OOB as u64;

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
