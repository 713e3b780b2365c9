//! Gives back the memory that a process was forked with, once it does nothing but wait.
//!
//! A pause is a copy of the zygote, and of what libcontainer left in it: most of what a Pod costs that has done
//! nothing yet. It needs the stack it stands on alone.

use std::fs;

use crate::stack;

/// As many mappings are looked at; a zygote has a third of them.
const MOST: usize = 64;

/// Private anonymous memory but the stack and what belongs to the thread itself. On the stack as a whole, for the
/// heap is a part of it.
#[derive(Debug, Clone, Copy)]
pub struct Unneeded {
    /// Address and length; of nothing where there are no more.
    mappings: [(usize, usize); MOST],
    /// Where the heap ended (brk(2)); it may have grown in the copy.
    heap_end: usize,
}

impl Unneeded {
    /// What this process has now, and a copy of it will have at the same place. None without /proc.
    pub fn find() -> Unneeded {
        let mut found = Unneeded { mappings: [(0, 0); MOST], heap_end: heap_end() };
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        // SAFETY: it has no preconditions.
        let thread = unsafe { libc::__errno_location() } as usize;
        let mappings = maps.lines().filter_map(|line| anonymous(line, thread));
        for (slot, mapping) in found.mappings.iter_mut().zip(mappings) {
            *slot = mapping;
        }
        found
    }

    /// Gives it back: from here on it is zero.
    ///
    /// # Safety
    /// What the caller does until it ends, and whoever it calls, uses nothing but the stack.
    pub unsafe fn give_back(self) {
        let grown = (self.heap_end, heap_end().saturating_sub(self.heap_end));
        for (address, length) in self.mappings.into_iter().chain([grown]) {
            // SAFETY: memory of this process that nobody uses any more, as the caller promises.
            unsafe { libc::madvise(address as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        }
        stack::trim();
    }
}

fn heap_end() -> usize {
    // SAFETY: asked to move by nothing, it only tells.
    unsafe { libc::sbrk(0) as usize }
}

/// The address and length of a mapping of that kind, by its line in /proc/PID/maps (proc(5)).
fn anonymous(line: &str, thread: usize) -> Option<(usize, usize)> {
    let mut fields = line.split_whitespace();
    let (range, rights) = (fields.next()?, fields.next()?);
    let name = fields.nth(3).unwrap_or("[heap]");
    if rights != "rw-p" || name != "[heap]" {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    let start = usize::from_str_radix(start, 16).ok()?;
    let end = usize::from_str_radix(end, 16).ok()?;
    (!(start..end).contains(&thread)).then_some((start, end - start))
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::zygote::exit;

    #[test]
    fn heap_and_anonymous_memory_are_found_and_files_stacks_and_the_thread_are_not() {
        let found = |line| anonymous(line, 0x7f00_0000_1000);
        let heap = "01000000-01021000 rw-p 00000000 00:00 0                          [heap]";
        assert_eq!(found(heap), Some((0x0100_0000, 0x21000)));
        assert_eq!(
            found("7e0000000000-7e0000002000 rw-p 00000000 00:00 0 "),
            Some((0x7e00_0000_0000, 0x2000))
        );
        for other in [
            "7f0000000000-7f0000002000 rw-p 00000000 00:00 0 ",
            "7e0000000000-7e0000002000 ---p 00000000 00:00 0 ",
            "7e0000000000-7e0000002000 rw-p 00002000 fe:00 7 /lib/libc.so.6",
            "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]",
        ] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn a_copy_that_gave_its_memory_back_ends_as_it_should() {
        let large = vec![1u8; 8 << 20];
        let place = &raw const large[1 << 20];
        let unneeded = Unneeded::find();
        // SAFETY: the child uses its stack alone, and ends without handlers.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                // SAFETY: as above.
                unsafe { unneeded.give_back() };
                // SAFETY: the place is mapped still.
                let there = unsafe { place.read_volatile() };
                exit(i32::from(there) + 7)
            }
            ForkResult::Parent { child } => {
                let status = waitpid(child, None).expect("waited for");
                assert_eq!(status, WaitStatus::Exited(child, 7));
                assert_eq!(large[1 << 20], 1, "of the one it is a copy of, too");
            }
        }
    }
}
