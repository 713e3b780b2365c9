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

/// What is mapped, in bytes, each a multiple of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    /// What is a stack is never a memory: it is not wiped.
    pub is_stack: bool,
    /// Cannot be accessed.
    pub before: usize,
    /// Can be, as far as it is opened.
    pub length: usize,
    /// Cannot be accessed.
    pub after: usize,
}

/// Mapped memory with a single owner; by default none at all.
#[derive(Debug, Default)]
pub struct Region {
    /// How it was mapped.
    pub shape: Shape,
    /// The address of all of it.
    pub address: usize,
    /// So many bytes can be accessed.
    pub open: usize,
    /// More may be accessible than that.
    pub is_spoiled: bool,
    /// What it keeps while it is free, in bytes.
    pub kept: usize,
}

impl Region {
    /// Of which nothing can be accessed yet.
    ///
    /// # Errors
    /// Of mmap(2).
    pub fn map(shape: Shape) -> io::Result<Region> {
        let Shape { before, length, after, .. } = shape;
        let bytes = before.checked_add(length).and_then(|bytes| bytes.checked_add(after));
        let bytes = bytes.and_then(NonZeroUsize::new).ok_or(io::ErrorKind::InvalidInput)?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: a new mapping, at a place the kernel chooses, replaces no other mapping.
        let address = unsafe { mmap_anonymous(None, bytes, ProtFlags::PROT_NONE, flags) }?;
        // A page more is a page more to overwrite. A kernel without large pages refuses.
        // SAFETY: the mapping of before, of which nothing is changed.
        let _ = unsafe { madvise(address, bytes.get(), MmapAdvise::MADV_NOHUGEPAGE) };
        Ok(Region { shape, address: address.as_ptr().expose_provenance(), ..Region::default() })
    }

    /// Where it can be accessed from.
    pub fn start(&self) -> usize {
        self.address + self.shape.before
    }

    /// So many bytes from there.
    pub fn at(&self, offset: usize) -> *mut u8 {
        ptr::with_exposed_provenance_mut(self.start() + offset)
    }

    fn place(&self, offset: usize) -> io::Result<NonNull<c_void>> {
        NonNull::new(self.at(offset).cast()).ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Makes that many bytes accessible, and no more.
    ///
    /// # Errors
    /// Of mprotect(2); [`io::ErrorKind::OutOfMemory`] of more than there are.
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
            // SAFETY: within the mapping; what is closed is not in use, because only a region that is free is made smaller.
            let done = unsafe { mprotect(start, range.len(), protection) };
            // It may have been done in part.
            self.is_spoiled |= done.is_err();
            done?;
        }
        self.open = bytes;
        Ok(())
    }

    /// To the kernel: its pages are zero again when they are touched. Only of a region that is free.
    ///
    /// # Errors
    /// Of madvise(2).
    pub fn give_back(&self, pages: Range<usize>) -> io::Result<()> {
        if pages.is_empty() {
            return Ok(());
        }
        let start = self.place(pages.start)?;
        // SAFETY: within the mapping, which is private, and whose contents are not needed any more.
        Ok(unsafe { madvise(start, pages.len(), MmapAdvise::MADV_DONTNEED) }?)
    }

    /// Whether the page at that offset is in memory.
    ///
    /// # Errors
    /// Of mincore(2).
    pub fn is_resident(&self, offset: usize) -> io::Result<bool> {
        let mut page = 0;
        // SAFETY: within the mapping, of which nothing is changed; one page is reported in one byte.
        let result = unsafe { libc::mincore(self.place(offset)?.as_ptr(), 1, &raw mut page) };
        Errno::result(result)?;
        Ok(page & 1 == 1)
    }

    /// Overwrites them with zeros. Only of a region that is free, and of what is open.
    pub fn clear(&self, pages: Range<usize>) {
        debug_assert!(pages.end <= self.open);
        // SAFETY: it is open, and has this one owner.
        unsafe { self.at(pages.start).write_bytes(0, pages.len()) }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        let Shape { before, length, after, .. } = self.shape;
        let address: *mut c_void = ptr::with_exposed_provenance_mut(self.address);
        if let Some(address) = NonNull::new(address) {
            // SAFETY: the whole mapping, which is this value's alone. If it stays, its address is not known any more.
            let _ = unsafe { munmap(address, before + length + after) };
        }
    }
}
