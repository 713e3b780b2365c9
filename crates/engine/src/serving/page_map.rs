//! Which pages of this process exist, and which were never touched (proc(5), `/proc/PID/pagemap`).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Entry of a page: 64 bits in the machine's order.
type Entry = [u8; size_of::<u64>()];

/// A page is in memory, or it is in swap; one that the kernel is moving counts as the latter.
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;

/// So many pages are looked at, at once.
pub const PAGES: usize = 1024;

/// The page map of this very process.
#[derive(Debug)]
pub struct PageMap {
    file: File,
    /// The bytes of a page.
    pub page: usize,
}

impl PageMap {
    /// With pages of so many bytes.
    pub fn new(file: File, page: usize) -> PageMap {
        PageMap { file, page }
    }

    /// Calls `each` with the runs of pages from `start` on that were touched, in bytes from there. All others are zero,
    /// if the memory was mapped so.
    ///
    /// # Errors
    /// Of pread(2), and those of `each`.
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
