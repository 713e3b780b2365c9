//! Mapped memory with a single owner.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::ptr::{self, NonNull};

use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, mprotect, munmap};

/// Sizes of a mapping in bytes, each a multiple of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    /// Whether it is for a stack. It is then never used as a memory, because it is not wiped.
    pub is_stack: bool,
    /// Inaccessible bytes before it.
    pub before: usize,
    /// Bytes that can be opened.
    pub length: usize,
    /// Inaccessible bytes after it.
    pub after: usize,
}

/// Mapped memory with a single owner. The default is no memory.
#[derive(Debug, Default)]
pub struct Region {
    /// Sizes with which it was mapped.
    pub shape: Shape,
    /// Address of the mapping.
    pub address: usize,
    /// Number of accessible bytes.
    pub open: usize,
    /// Whether more than `open` may be accessible.
    pub is_spoiled: bool,
    /// Bytes in memory while it is unused.
    pub kept: usize,
}

impl Region {
    /// Maps memory of which nothing is accessible yet.
    ///
    /// # Errors
    /// Those of mmap(2).
    pub fn map(shape: Shape) -> io::Result<Region> {
        let Shape { before, length, after, .. } = shape;
        let bytes = before.checked_add(length).and_then(|bytes| bytes.checked_add(after));
        let bytes = bytes.and_then(NonZeroUsize::new).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping at an address that the kernel chooses replaces no other mapping.
        let address = unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_NONE, flags) }?;
        // With large pages, there would be more to overwrite. A kernel without large pages returns an error.
        // SAFETY: it is the mapping from above, and its contents do not change.
        let _ = unsafe { madvise(address, bytes.get(), MmapAdvise::MADV_NOHUGEPAGE) };
        Ok(Region { shape, address: address.as_ptr().expose_provenance(), ..Region::default() })
    }

    /// Address of the first byte that can be opened.
    pub fn start(&self) -> usize {
        self.address + self.shape.before
    }

    /// Pointer to the byte at this offset from there.
    pub fn at(&self, offset: usize) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.start() + offset)
    }

    fn place(&self, offset: usize) -> io::Result<NonNull<c_void>> {
        NonNull::new(self.at(offset).cast()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Makes this many bytes accessible, and no more.
    ///
    /// # Errors
    /// Those of mprotect(2). [`io::ErrorKind::OutOfMemory`] if there are not so many bytes.
    pub fn open(&mut self, bytes: usize) -> io::Result<()> {
        let (protection, range) = match bytes {
            _ if bytes > self.shape.length => return Err(io::ErrorKind::OutOfMemory.into()),
            _ if bytes > self.open => {
                (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, self.open..bytes)
            }
            _ => (ProtFlags::PROT_NONE, bytes..self.open),
        };
        if !range.is_empty() {
            let start = self.place(range.start)?;
            // SAFETY: within the mapping. What is closed is not in use, because only an unused region is made smaller.
            let done = unsafe { mprotect(start, range.len(), protection) };
            // A part may have been changed.
            self.is_spoiled |= done.is_err();
            done?;
        }
        self.open = bytes;
        Ok(())
    }

    /// Releases pages to the kernel. They are zero when they are touched again. The region must be unused.
    ///
    /// # Errors
    /// Those of madvise(2).
    pub fn give_back(&self, pages: Range<usize>) -> io::Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        let start = self.place(pages.start)?;
        // SAFETY: within the mapping, which is private, and whose contents are no longer needed.
        Ok(unsafe { madvise(start, pages.len(), MmapAdvise::MADV_DONTNEED) }?)
    }

    /// Returns whether the page at this offset is in memory.
    ///
    /// # Errors
    /// Those of mincore(2).
    pub fn is_resident(&self, offset: usize) -> io::Result<bool> {
        let mut page = 0;
        // SAFETY: within the mapping, whose contents do not change. The result for one page is one byte.
        let result = unsafe { libc::mincore(self.place(offset)?.as_ptr(), 1, &raw mut page) };
        Errno::result(result)?;
        Ok(page & 1 == 1)
    }

    /// Overwrites pages with zeros. They must be open, and the region unused.
    pub fn clear(&self, pages: Range<usize>) {
        debug_assert!(pages.end <= self.open);
        // SAFETY: it is open, and has a single owner.
        unsafe { self.at(pages.start).write_bytes(0, pages.len()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let Shape { before, length, after, .. } = self.shape;
        let address: *mut c_void = ptr::with_exposed_provenance_mut(self.address);
        if let Some(address) = NonNull::new(address) {
            // SAFETY: it is the whole mapping, and only this value has its address. If munmap(2) fails, nothing uses it again.
            let _ = unsafe { munmap(address, before + length + after) };
        }
    }
}
