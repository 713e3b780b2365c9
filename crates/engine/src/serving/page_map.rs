//! Finds the pages of this process that were touched (proc(5), `/proc/PID/pagemap`).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Entry of a page: 64 bits in the machine's order.
type Entry = [u8; size_of::<u64>()];

/// Bits of a page that is in memory, or in swap. A page that the kernel is moving counts as in swap.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// Number of pages that are read at once.
pub const PAGES: usize = 1024;

/// Page map of this process.
#[derive(Debug)]
pub struct PageMap {
    file: File,
    /// Bytes of a page.
    pub page: usize,
}

impl PageMap {
    /// Takes the file and the bytes of a page.
    pub fn new(file: File, page: usize) -> PageMap {
        PageMap { file, page }
    }

    /// Calls `each` with each run of touched pages from `start` on, as offsets in bytes. If the memory was mapped as zeros, all
    /// other pages are zero.
    ///
    /// # Errors
    /// Those of pread(2) and of `each`.
    pub fn touched(
        &self,
        start: usize,
        pages: usize,
        mut each: impl FnMut(Range<usize>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut entries = [Entry::default(); PAGES];
        let entries = &mut entries[..pages];
        let first = start / self.page * size_of::<Entry>();
        self.file.read_exact_at(entries.as_flattened_mut(), first as u64)?;
        let mut from = 0;
        for run in entries.chunk_by(|one, other| was_touched(one) == was_touched(other)) {
            let to = from + run.len() * self.page;
            if was_touched(&run[0]) {
                each(from..to)?;
            }
            from = to;
        }
        Ok(())
    }
}

fn was_touched(entry: &Entry) -> bool {
    u64::from_ne_bytes(*entry) & (PRESENT | SWAPPED) != 0
}
