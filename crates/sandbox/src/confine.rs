//! The last barrier around a guest, and around a compile worker: what its own process can still ask of the kernel, if code
//! breaks out of Wasmtime's sandbox.
//!
//! Two filters of system calls (seccomp(2)) are added to that of the container's spec. A call must pass all of them.
//!
//! 1. [`load`], when the process is isolated, before it reads its task or maps its code: only the calls that the runtime and
//!    WASI make (`calls`).
//! 2. [`seal`], when the code is loaded, before its first instruction: no memory becomes executable any more, no pair of sockets is
//!    made, and no filter is added.
//!
//! The process has one thread then, and all later ones inherit the filters. A refused call fails with EPERM, which the guest gets
//! as an error of its interface. `program` assembles the filters.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use libc::{c_long, sock_filter, sock_fprog};
use nix::errno::Errno;
use nix::unistd::getpid;

use crate::Error;

mod calls;
mod program;

use calls::{ALLOWED, CHECKED, FIRST_UNKNOWN, OLDER, OWN_PROCESS, SEALED, UNKNOWN};
use program::{Decision, JUMP_IF_EQUAL, Program, Range};

/// Both filters.
#[derive(Debug)]
struct Filters {
    first: Program,
    second: Program,
}

static FILTERS: OnceLock<Filters> = OnceLock::new();

/// Makes the filters, once for all processes that are forked from this one.
pub fn prepare() {
    let _span = trace::span("filters of system calls");
    let _ = filters();
}

fn filters() -> &'static Filters {
    FILTERS.get_or_init(|| Filters { first: first(), second: second() })
}

/// Restricts this process to the calls that a guest's process makes.
///
/// # Errors
/// [`Error::System`] if the filter cannot be loaded.
pub fn load() -> Result<(), Error> {
    let _span = trace::span("restrict system calls");
    let mut filter = filters().first.clone();
    // A process id is positive.
    let own = getpid().as_raw().cast_unsigned();
    let ids = filter.iter_mut().filter(|it| it.code == JUMP_IF_EQUAL && it.k == OWN_PROCESS);
    ids.for_each(|it| it.k = own);
    add(&filter)
}

/// Keeps this process from making memory executable from now on, from making pairs of sockets, and from adding filters.
///
/// # Errors
/// [`Error::System`] if the filter cannot be loaded.
pub fn seal() -> Result<(), Error> {
    let _span = trace::span("seal executable memory");
    add(&filters().second)
}

fn add(filter: &[sock_filter]) -> Result<(), Error> {
    // The kernel does not write to it.
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // Without this flag, kernels before 5.16 slow down all code of the process.
    let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW);
    // SAFETY: the program and its instructions outlive the call, which copies them.
    let added = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    let failed = Error::system("restrict the system calls of a guest's process");
    Errno::result(added).map(drop).map_err(failed)
}

fn first() -> Program {
    let always = ALLOWED.iter().flat_map(|(_, numbers)| *numbers).chain(OLDER);
    let always = always.map(|number| (*number, Decision::Allow));
    let unknown = UNKNOWN.iter().map(|number| (*number, Decision::Fail(Errno::ENOSYS)));
    let checked = CHECKED.iter().map(|(_, number, cases)| (*number, Decision::Check(cases)));
    let decisions = always.chain(unknown).chain(checked).collect();
    let mut ranges = ranges(&decisions, Decision::Fail(Errno::EPERM));
    ranges.push((FIRST_UNKNOWN, Decision::Fail(Errno::ENOSYS)));
    program::of(&ranges)
}

/// The first filter refuses all other calls that make memory executable.
fn second() -> Program {
    let decisions = SEALED.iter().map(|(number, cases)| (*number, Decision::Check(cases)));
    program::of(&ranges(&decisions.collect(), Decision::Allow))
}

fn ranges(decisions: &BTreeMap<c_long, Decision>, others: Decision) -> Vec<Range> {
    let mut ranges = vec![(0, others)];
    for (number, decision) in decisions {
        let number = *number as u32;
        // The range that was begun after the call before is empty if this is the next one.
        ranges.pop_if(|(first, _)| *first == number);
        ranges.extend([(number, *decision), (number + 1, others)]);
    }
    ranges.dedup_by_key(|(_, decision)| *decision);
    ranges
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ffi::c_void;
    use std::num::NonZeroUsize;
    use std::ptr::NonNull;
    use std::thread;

    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect};
    use nix::sys::prctl;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket, socketpair};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::child::exit;

    /// Runs it in a child, which fails with the number of the first line that is not as expected.
    fn in_a_child(lines: impl FnOnce() -> Vec<bool>) {
        // SAFETY: the child does what a guest's process does, which is made by a fork as well, and ends.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                let wrong = lines().iter().position(|is_right| !is_right);
                exit(wrong.map_or(0, |line| line as i32 + 1))
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            }
        }
    }

    fn call(number: i64, arguments: [i64; 3]) -> Errno {
        let [one, two, three] = arguments;
        // SAFETY: the tests pass numbers and null pointers. The fourth one is where prlimit(2) would write.
        let result = unsafe { libc::syscall(number, one, two, three, 0_i64) };
        Errno::result(result).err().unwrap_or(Errno::from_raw(0))
    }

    fn map(protection: ProtFlags) -> nix::Result<NonNull<c_void>> {
        let length = NonZeroUsize::MIN.saturating_add(4095);
        // SAFETY: a new mapping, at an address that the kernel chooses.
        unsafe { mmap_anonymous(None, length, protection, MapFlags::MAP_PRIVATE) }
    }

    #[test]
    fn a_guests_process_makes_the_calls_of_its_runtime_and_no_others() {
        prepare();
        in_a_child(|| {
            let (own, done) = (i64::from(getpid().as_raw()), Errno::from_raw(0));
            let is_tcp =
                |family| socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).is_ok();
            vec![
                prctl::set_no_new_privs().is_ok() && load().is_ok(),
                thread::spawn(getpid).join().is_ok_and(|pid| pid == getpid()),
                is_tcp(AddressFamily::Inet) && is_tcp(AddressFamily::Inet6),
                !is_tcp(AddressFamily::Unix) && !is_tcp(AddressFamily::Netlink),
                call(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0]) == Errno::EPERM,
                call(libc::SYS_clone3, [0, 0, 0]) == Errno::ENOSYS,
                call(libc::SYS_tgkill, [own, own, 0]) == done,
                call(libc::SYS_tgkill, [1, 1, 0]) == Errno::EPERM,
                call(libc::SYS_prlimit64, [0, 0, 0]) == done,
                call(libc::SYS_prlimit64, [own, 0, 0]) == Errno::EPERM,
                // There is no such descriptor.
                call(libc::SYS_sendmsg, [-1, 0, 0]) == Errno::EBADF,
                call(libc::SYS_sendmsg, [-1, 0, libc::MSG_OOB.into()]) == Errno::EPERM,
                call(libc::SYS_execve, [0, 0, 0]) == Errno::EPERM,
                call(libc::SYS_io_uring_setup, [0, 0, 0]) == Errno::EPERM,
                call(FIRST_UNKNOWN.into(), [0, 0, 0]) == Errno::ENOSYS,
                call(100_000, [0, 0, 0]) == Errno::ENOSYS,
            ]
        });
    }

    #[test]
    fn nothing_becomes_executable_once_the_code_is_loaded() {
        prepare();
        in_a_child(|| {
            let readable = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
            let executable = ProtFlags::PROT_READ | ProtFlags::PROT_EXEC;
            let begun = prctl::set_no_new_privs().is_ok() && load().is_ok();
            let Ok(page) = map(readable) else { return vec![false] };
            let pair = || {
                let (unix, stream) = (AddressFamily::Unix, SockType::Stream);
                socketpair(unix, stream, None, SockFlag::SOCK_CLOEXEC).map(drop)
            };
            // SAFETY: nothing is executed there.
            let protect = |protection| unsafe { mprotect(page, 4096, protection) };
            vec![
                begun && map(executable).is_ok() && protect(executable).is_ok(),
                pair().is_ok(),
                seal().is_ok(),
                map(executable) == Err(Errno::EPERM) && protect(executable) == Err(Errno::EPERM),
                map(readable).is_ok() && protect(readable).is_ok(),
                pair() == Err(Errno::EPERM),
                seal().is_err(),
            ]
        });
    }

    #[test]
    fn each_call_has_one_purpose() {
        let always = ALLOWED.iter().flat_map(|(_, numbers)| *numbers).chain(OLDER);
        let mut seen = BTreeSet::new();
        for number in always.chain(UNKNOWN).chain(CHECKED.iter().map(|(_, number, _)| number)) {
            assert!(seen.insert(number), "call {number} is there twice");
            assert!(*number < FIRST_UNKNOWN.into(), "call {number} would be unknown");
        }
    }

    #[test]
    fn the_process_s_own_id_is_compared_at_one_place() {
        let filter = first();
        let places = filter.iter().filter(|it| it.k == OWN_PROCESS).collect::<Vec<_>>();
        assert!(matches!(places[..], [one] if one.code == JUMP_IF_EQUAL), "{places:?}");
    }
}
