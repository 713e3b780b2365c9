//! Stack of a process that lives for long and does little. Without a release, it keeps the memory that deep calls once
//! touched.

use std::hint::black_box;

use nix::unistd::{getpid, gettid};

/// Size of the memory below the caller's frame that is given back. Linux keeps a mebibyte free below the stack
/// (`stack_guard_gap`), so that nothing else is there.
const REACH: usize = 512 << 10;

/// Size of the stack that these calls may need themselves.
const FRAMES: usize = 16 << 10;

const PAGE: usize = 4096;

/// Gives back the memory below the caller's frame. Only on the first thread, because the stacks of others have neighbours.
#[inline(never)]
pub fn trim() {
    if gettid() != getpid() {
        return;
    }
    let here = 0u8;
    let end = (black_box(&raw const here) as usize - FRAMES) & !(PAGE - 1);
    // SAFETY: the memory is this thread's stack below all of its frames, or is not mapped, which madvise(2) ignores.
    unsafe { libc::madvise((end - REACH) as *mut libc::c_void, REACH, libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::child::exit;

    /// Touches 256 KiB below the caller, and returns where their middle is.
    #[inline(never)]
    fn deep() -> usize {
        let frame = black_box([1u8; 256 << 10]);
        black_box(&raw const frame[128 << 10]) as usize
    }

    /// Runs in a forked process, in which the test's thread is the first one.
    #[test]
    fn what_deep_calls_touched_is_given_back_and_what_is_in_use_is_not() {
        // SAFETY: the child uses its stack alone, and ends without handlers.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                let kept = black_box([7u8; 64 << 10]);
                let address = deep();
                trim();
                // SAFETY: `deep` has just had it on this stack.
                let there = unsafe { (address as *const u8).read_volatile() };
                exit(i32::from(there) * 10 + i32::from(kept.iter().all(|byte| *byte == 7)))
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).expect("waited for"), WaitStatus::Exited(child, 1));
            }
        }
    }
}
