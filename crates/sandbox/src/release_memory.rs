//! Releases memory that a process was forked with, when the process only waits from then on.
//!
//! A pause is a copy of the zygote, with what its isolation left. That is most of the memory of an idle Pod, but a
//! pause only needs its stack.

use std::fs;

use crate::stack;

/// Most mappings that are released. A zygote has a third of them.
const MOST: usize = 64;

/// Private anonymous memory except for the stack, the thread's own data, and data of libraries: the compiler may call `memcpy`
/// wherever a value moves, and glibc's reads such data to choose its implementation. This value must be on the stack, because
/// the heap is released.
#[derive(Debug, Clone, Copy)]
pub struct ForkedMemory {
    /// Address and length; zeros in unused places.
    mappings: [(usize, usize); MOST],
    /// End of the heap (brk(2)), which may have grown in the copy.
    heap_end: usize,
}

impl ForkedMemory {
    /// Finds such memory of this process; a copy of it will have it at the same addresses. Empty without /proc.
    pub fn find() -> ForkedMemory {
        let mut found = ForkedMemory { mappings: [(0, 0); MOST], heap_end: heap_end() };
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        // SAFETY: it has no preconditions.
        let thread = unsafe { libc::__errno_location() } as usize;
        let before = [""].into_iter().chain(maps.lines());
        let mappings = before.zip(maps.lines()).filter(|(before, line)| !is_library(before, line));
        let mappings = mappings.filter_map(|(_, line)| anonymous(line, thread));
        for (slot, mapping) in found.mappings.iter_mut().zip(mappings) {
            *slot = mapping;
        }
        found
    }

    /// Gives the memory back to the kernel. It reads as zeros from then on.
    ///
    /// # Safety
    /// Until this process ends, the caller and the functions that it calls must only use the stack and variables of libraries.
    pub unsafe fn release(self) {
        let grown = (self.heap_end, heap_end().saturating_sub(self.heap_end));
        for (address, length) in self.mappings.into_iter().chain([grown]) {
            // SAFETY: the memory of this process is not used any more, as the caller guarantees.
            unsafe { libc::madvise(address as *mut libc::c_void, length, libc::MADV_DONTNEED) };
        }
        stack::trim();
    }
}

fn heap_end() -> usize {
    // SAFETY: an increment of 0 changes nothing.
    unsafe { libc::sbrk(0) as usize }
}

/// Address and length of a mapping of that kind, by its line in /proc/PID/maps (proc(5)).
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

/// Whether a mapping is data of a library beyond its file, by its line and the one before it: it begins where that one ends.
fn is_library(before: &str, line: &str) -> bool {
    let (range, _) = before.split_once(' ').unwrap_or_default();
    let (start, _) = line.split_once('-').unwrap_or_default();
    range.split_once('-').is_some_and(|(_, end)| end == start) && before.contains(".so")
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::child::exit;

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
    fn data_of_a_library_beyond_its_file_is_distinguished_from_other_memory() {
        let library = "7e0000000000-7e0000002000 rw-p 00002000 fe:00 7 /lib/libc.so.6";
        let program = "7e0000000000-7e0000002000 rw-p 00002000 fe:00 7 /bin/shim";
        let next = "7e0000002000-7e000000f000 rw-p 00000000 00:00 0 ";
        assert!(is_library(library, next));
        assert!(!is_library(program, next));
        assert!(!is_library(library, "7e0000003000-7e000000f000 rw-p 00000000 00:00 0 "));
        assert!(!is_library("", next));
    }

    /// The compiler copies values that move. This one is large enough for glibc to choose its implementation.
    #[test]
    fn a_copy_that_released_its_memory_can_still_copy_values() {
        let memory = ForkedMemory::find();
        // SAFETY: the child uses its stack alone, and ends without handlers.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                let value = black_box([7u8; 64 << 10]);
                // SAFETY: as above.
                unsafe { memory.release() };
                let copy = black_box(value);
                exit(i32::from(copy.iter().all(|byte| *byte == 7)))
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).expect("waited for"), WaitStatus::Exited(child, 1));
            }
        }
    }

    #[test]
    fn a_copy_that_released_its_memory_ends_as_it_should() {
        let large = vec![1u8; 8 << 20];
        let address = &raw const large[1 << 20];
        let memory = ForkedMemory::find();
        // SAFETY: the child uses its stack alone, and ends without handlers.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                // SAFETY: as above.
                unsafe { memory.release() };
                // SAFETY: the address is still mapped.
                let there = unsafe { address.read_volatile() };
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
