//! The attempts of the drill: each is a system call with the arguments of one who wants to get further.
//!
//! The order matters: those that would change what the process may do come last.

use nix::libc;
use tests::captive::Arg::{self, Number, Stack, Text, Words, Zeros};

/// What is attempted, by which system call, with which arguments.
type Attempt = (&'static str, i64, &'static [Arg]);

/// The working directory, as the directory of a path (openat(2)).
const HERE: Arg = number(libc::AT_FDCWD);

/// A process that exists nowhere.
const NO_PROCESS: Arg = Number(0x7fff_fff0);

/// The first process of the container, which is this one.
const FIRST: Arg = Number(1);

/// Not a descriptor.
const NONE: Arg = Number(u64::MAX);

const ZERO: Arg = Number(0);

const PAGE: Arg = Number(4096);

const fn number(value: i32) -> Arg {
    Number((value as i64).cast_unsigned())
}

/// As [`number`], for several flags.
const fn flags(all: &[i32]) -> Arg {
    let (mut sum, mut index) = (0, 0);
    while index < all.len() {
        sum |= all[index];
        index += 1;
    }
    number(sum)
}

/// Protection of memory that can be executed.
const EXECUTABLE: Arg = flags(&[libc::PROT_READ, libc::PROT_EXEC]);
const ALL: Arg = flags(&[libc::PROT_READ, libc::PROT_WRITE, libc::PROT_EXEC]);
const ANONYMOUS: Arg = flags(&[libc::MAP_PRIVATE, libc::MAP_ANONYMOUS]);

/// All attempts.
pub const ATTEMPTS: &[Attempt] = &[
    // Programs and other processes.
    ("execute a program", libc::SYS_execve, &[Text("/no-such-program"), ZERO, ZERO]),
    (
        "execute a program by descriptor",
        libc::SYS_execveat,
        &[NONE, Zeros, ZERO, ZERO, number(libc::AT_EMPTY_PATH)],
    ),
    ("fork", libc::SYS_fork, &[]),
    ("fork by clone", libc::SYS_clone, &[number(libc::SIGCHLD)]),
    (
        "clone with a user namespace",
        libc::SYS_clone,
        &[flags(&[libc::SIGCHLD, libc::CLONE_NEWUSER])],
    ),
    ("clone by clone3", libc::SYS_clone3, &[Zeros, Number(88)]),
    ("trace another process", libc::SYS_ptrace, &[number(16), NO_PROCESS]),
    (
        "read another process's memory",
        libc::SYS_process_vm_readv,
        &[NO_PROCESS, ZERO, ZERO, ZERO, ZERO, ZERO],
    ),
    (
        "write another process's memory",
        libc::SYS_process_vm_writev,
        &[NO_PROCESS, ZERO, ZERO, ZERO, ZERO, ZERO],
    ),
    ("find another process", libc::SYS_pidfd_open, &[FIRST, ZERO]),
    ("take another process's descriptor", libc::SYS_pidfd_getfd, &[NONE, ZERO, ZERO]),
    ("signal a process", libc::SYS_kill, &[FIRST, ZERO]),
    (
        "signal a thread of another process",
        libc::SYS_tgkill,
        &[NO_PROCESS, NO_PROCESS, number(libc::SIGKILL)],
    ),
    ("signal any thread", libc::SYS_tkill, &[FIRST, ZERO]),
    // Code that was not compiled.
    ("map memory to write and execute", libc::SYS_mmap, &[ZERO, PAGE, ALL, ANONYMOUS, NONE, ZERO]),
    ("map memory to execute", libc::SYS_mmap, &[ZERO, PAGE, EXECUTABLE, ANONYMOUS, NONE, ZERO]),
    ("make the stack executable", libc::SYS_mprotect, &[Stack, PAGE, ALL]),
    ("make the stack executable with a key", libc::SYS_pkey_mprotect, &[Stack, PAGE, ALL, NONE]),
    ("make a file in memory", libc::SYS_memfd_create, &[Text("code"), ZERO]),
    // Sockets.
    ("socket of TCP", libc::SYS_socket, &[number(libc::AF_INET), number(libc::SOCK_STREAM), ZERO]),
    (
        "socket of UDP on IPv6",
        libc::SYS_socket,
        &[number(libc::AF_INET6), number(libc::SOCK_DGRAM), ZERO],
    ),
    (
        "socket of ping",
        libc::SYS_socket,
        &[number(libc::AF_INET), number(libc::SOCK_DGRAM), number(libc::IPPROTO_ICMP)],
    ),
    (
        "socket of multipath TCP",
        libc::SYS_socket,
        &[number(libc::AF_INET), number(libc::SOCK_STREAM), number(libc::IPPROTO_MPTCP)],
    ),
    (
        "raw socket",
        libc::SYS_socket,
        &[number(libc::AF_INET), number(libc::SOCK_RAW), number(libc::IPPROTO_RAW)],
    ),
    ("Unix socket", libc::SYS_socket, &[number(libc::AF_UNIX), number(libc::SOCK_STREAM), ZERO]),
    (
        "pair of Unix sockets",
        libc::SYS_socketpair,
        &[number(libc::AF_UNIX), number(libc::SOCK_STREAM), ZERO, Zeros],
    ),
    ("send by no socket", libc::SYS_sendto, &[NONE, Zeros, Number(8), ZERO, ZERO, ZERO]),
    (
        "send data out of band by no socket",
        libc::SYS_sendto,
        &[NONE, Zeros, Number(8), number(libc::MSG_OOB), ZERO, ZERO],
    ),
    ("receive by no socket", libc::SYS_recvmsg, &[NONE, Zeros, ZERO]),
    (
        "receive data out of band by no socket",
        libc::SYS_recvmsg,
        &[NONE, Zeros, number(libc::MSG_OOB)],
    ),
    ("netlink socket", libc::SYS_socket, &[number(libc::AF_NETLINK), number(libc::SOCK_RAW), ZERO]),
    ("packet socket", libc::SYS_socket, &[number(libc::AF_PACKET), number(libc::SOCK_RAW), ZERO]),
    ("vsock socket", libc::SYS_socket, &[number(libc::AF_VSOCK), number(libc::SOCK_STREAM), ZERO]),
    (
        "socket of the kernel's cryptography",
        libc::SYS_socket,
        &[number(libc::AF_ALG), number(libc::SOCK_SEQPACKET), ZERO],
    ),
    (
        "filter of a firewall",
        libc::SYS_setsockopt,
        &[NONE, number(libc::SOL_IP), Number(64), Zeros, PAGE],
    ),
    // Namespaces and mounts.
    ("join a namespace", libc::SYS_setns, &[NONE, ZERO]),
    ("mount", libc::SYS_mount, &[Text("tmpfs"), Text("/"), Text("tmpfs"), ZERO, ZERO]),
    ("unmount", libc::SYS_umount2, &[Text("/"), number(libc::MNT_DETACH)]),
    ("open a file system", libc::SYS_fsopen, &[Text("tmpfs"), ZERO]),
    ("copy a mount", libc::SYS_open_tree, &[HERE, Text("/"), Number(1)]),
    ("change a mount", libc::SYS_mount_setattr, &[HERE, Text("/"), ZERO, Zeros, Number(32)]),
    ("change the root", libc::SYS_chroot, &[Text("/")]),
    ("pivot the root", libc::SYS_pivot_root, &[Text("/"), Text("/")]),
    ("open a file by its handle", libc::SYS_open_by_handle_at, &[HERE, Zeros, ZERO]),
    ("find a file's handle", libc::SYS_name_to_handle_at, &[HERE, Text("/"), Zeros, Zeros, ZERO]),
    // The kernel's other interfaces.
    ("load a module", libc::SYS_init_module, &[Zeros, Number(8), Zeros]),
    ("load a module by descriptor", libc::SYS_finit_module, &[NONE, Zeros, ZERO]),
    ("load another kernel", libc::SYS_kexec_load, &[ZERO, ZERO, ZERO, NONE]),
    ("make a map of BPF", libc::SYS_bpf, &[ZERO, Zeros, Number(48)]),
    ("load a program of BPF", libc::SYS_bpf, &[Number(5), Zeros, Number(48)]),
    ("set up io_uring", libc::SYS_io_uring_setup, &[Number(8), Zeros]),
    ("find a keyring", libc::SYS_keyctl, &[ZERO, number(libc::KEY_SPEC_SESSION_KEYRING), ZERO]),
    (
        "add a key",
        libc::SYS_add_key,
        &[Text("user"), Zeros, Zeros, Number(8), number(libc::KEY_SPEC_SESSION_KEYRING)],
    ),
    ("request a key", libc::SYS_request_key, &[Text("user"), Zeros, ZERO, ZERO]),
    ("handle page faults", libc::SYS_userfaultfd, &[Number(1)]),
    ("measure the processor", libc::SYS_perf_event_open, &[Zeros, ZERO, NONE, NONE, ZERO]),
    ("watch files", libc::SYS_inotify_init1, &[ZERO]),
    ("watch all files", libc::SYS_fanotify_init, &[ZERO, ZERO]),
    ("make a message queue", libc::SYS_msgget, &[ZERO, Number(0o1600)]),
    ("make shared memory", libc::SYS_shmget, &[ZERO, PAGE, Number(0o1600)]),
    ("read the kernel's log", libc::SYS_syslog, &[Number(3), Zeros, Number(8)]),
    ("read the kernel's clock", libc::SYS_adjtimex, &[Zeros]),
    ("restart the machine", libc::SYS_reboot, &[ZERO, ZERO, ZERO, ZERO]),
    ("bind memory to a node", libc::SYS_mbind, &[ZERO, ZERO, ZERO, ZERO, ZERO, ZERO]),
    ("move pages", libc::SYS_move_pages, &[ZERO, ZERO, ZERO, ZERO, ZERO, ZERO]),
    ("splice", libc::SYS_splice, &[NONE, ZERO, NONE, ZERO, PAGE, ZERO]),
    ("write a terminal's input", libc::SYS_ioctl, &[ZERO, Number(libc::TIOCSTI), Zeros]),
    ("ask whether there is input", libc::SYS_ioctl, &[ZERO, Number(libc::FIONREAD), Zeros]),
    ("have a signal sent for input", libc::SYS_fcntl, &[ZERO, Number(10), ZERO]),
    ("duplicate a descriptor", libc::SYS_fcntl, &[Number(2), number(libc::F_DUPFD_CLOEXEC), ZERO]),
    // Files.
    (
        "open the root",
        libc::SYS_openat,
        &[HERE, Text("/"), flags(&[libc::O_RDONLY, libc::O_DIRECTORY])],
    ),
    ("open a directory above the root", libc::SYS_openat, &[HERE, Text("/../../etc/shadow"), ZERO]),
    (
        "open a file of the image to write",
        libc::SYS_openat,
        &[HERE, Text("/guest.wasm"), number(libc::O_WRONLY)],
    ),
    (
        "open the process's memory",
        libc::SYS_openat,
        &[HERE, Text("/proc/self/mem"), number(libc::O_RDWR)],
    ),
    ("open a file of the kernel's", libc::SYS_openat, &[HERE, Text("/sys/kernel"), ZERO]),
    (
        "open the machine's memory",
        libc::SYS_openat,
        &[HERE, Text("/dev/mem"), number(libc::O_RDWR)],
    ),
    ("open a device without end", libc::SYS_openat, &[HERE, Text("/dev/zero"), ZERO]),
    ("make a directory", libc::SYS_mkdirat, &[HERE, Text("/drill"), Number(0o700)]),
    ("make a fifo", libc::SYS_mknodat, &[HERE, Text("/fifo"), Number(0o010_600), ZERO]),
    (
        "make a device",
        libc::SYS_mknodat,
        &[HERE, Text("/device"), Number(0o020_600), Number(0x103)],
    ),
    ("change a file's mode", libc::SYS_fchmodat, &[HERE, Text("/guest.wasm"), Number(0o4755)]),
    (
        "change a file's owner",
        libc::SYS_fchownat,
        &[HERE, Text("/guest.wasm"), Number(1), Number(1), ZERO],
    ),
    (
        "set an attribute of a file",
        libc::SYS_setxattr,
        &[Text("/guest.wasm"), Text("user.a"), Zeros, Number(1), ZERO],
    ),
    // The process itself.
    ("name the thread", libc::SYS_prctl, &[number(libc::PR_SET_NAME), Text("drill")]),
    (
        "change the heap's limits",
        libc::SYS_prctl,
        &[number(libc::PR_SET_MM), Number(1), ZERO, ZERO, ZERO],
    ),
    ("become another user", libc::SYS_setresuid, &[Number(0), Number(0), Number(0)]),
    ("set capabilities", libc::SYS_capset, &[Words([0x2008_0522, 0, 0, 0]), Zeros]),
    (
        "set a limit",
        libc::SYS_prlimit64,
        &[ZERO, number(libc::RLIMIT_CORE.cast_signed()), Zeros, ZERO],
    ),
    (
        "read a limit",
        libc::SYS_prlimit64,
        &[ZERO, number(libc::RLIMIT_CORE.cast_signed()), ZERO, Zeros],
    ),
    ("set the scheduler", libc::SYS_sched_setscheduler, &[ZERO, number(libc::SCHED_BATCH), Zeros]),
    ("make a timer", libc::SYS_timer_create, &[number(libc::CLOCK_MONOTONIC), ZERO, Zeros]),
    ("become dumpable", libc::SYS_prctl, &[number(libc::PR_SET_DUMPABLE), Number(1)]),
    ("make all memory executable", libc::SYS_personality, &[Number(0x0040_0000)]),
    ("make a user namespace", libc::SYS_unshare, &[number(libc::CLONE_NEWUSER)]),
    ("make a mount namespace in it", libc::SYS_unshare, &[number(libc::CLONE_NEWNS)]),
    ("mount in it", libc::SYS_mount, &[Text("tmpfs"), Text("/"), Text("tmpfs"), ZERO, ZERO]),
];
