//! Memory for the instances of a server, kept from one instance to the next.
//!
//! Most of the cost of a fresh instance is its memory: it would be mapped, faulted in and unmapped each time, and each
//! of these interrupts all other threads of the process. Here nothing is unmapped while requests arrive. What an
//! instance has written is overwritten with zeros, and the next instance finds the pages in place. The page map shows
//! which pages those are; no other page was touched. If there is no page map, or if much was written, the pages are
//! released to the kernel instead.
//!
//! Wasmtime's pool does something similar, but it asks the kernel for the pages that were written (`PAGEMAP_SCAN`).
//! That scan passes over pages that the kernel is moving at that moment, and the next instance would read what the
//! previous one wrote there.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;
use wasmtime::{LinearMemory, MemoryCreator, MemoryType, StackCreator, StackMemory};

use super::page_map::{PAGES, PageMap};
use super::region::{Region, Shape};
use crate::code::{LARGEST_PAGE, page_size};
use crate::memory;

/// The most that is kept of one instance's memory, in bytes. To overwrite more takes longer than new page faults.
const KEPT: usize = 1 << 20;

/// The most that is kept of all unused memory, in bytes, and as a part of what the container's guests may have: a guest that
/// grows cannot use what is kept here.
const KEPT_OF_ALL: usize = 16 << 20;
const KEPT_PART: u64 = 8;

/// The most that is kept of a stack, in bytes. It is a multiple of every page size.
const STACK: usize = 64 << 10;

/// Unused regions, for the next instances.
#[derive(Debug)]
pub struct Slots {
    page: usize,
    page_map: Option<PageMap>,
    /// The most that may be kept, in bytes.
    most: usize,
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// The last one that was returned is taken first, because its pages are in the processor's caches.
    regions: Vec<Region>,
    /// Number of regions, from the first on, that were not needed since [`Slots::release_unused`]. Never more than there are.
    unused: usize,
    /// Bytes that they keep.
    kept: usize,
}

impl Slots {
    /// Takes the page map of this process. Without one, all pages are released.
    pub fn new(page_map: Option<File>) -> Arc<Slots> {
        let page = page_size();
        let page_map = page_map.zip(page).map(|(file, page)| PageMap::new(file, page));
        let page_map = page_map.filter(|map| is_right(map).unwrap_or(false));
        let part = memory::for_guests().map_or(u64::MAX, |bytes| bytes / KEPT_PART);
        let most = usize::try_from(part).unwrap_or(usize::MAX).min(KEPT_OF_ALL);
        let page = page.unwrap_or(LARGEST_PAGE);
        Arc::new(Slots { page, page_map, most, free: Mutex::default() })
    }

    /// Returns whether pages are kept.
    pub fn has_page_map(&self) -> bool {
        self.page_map.is_some()
    }

    /// Unmaps the regions that were not needed since the last call.
    pub fn release_unused(&self) {
        let mut free = self.free();
        let unused = free.unused;
        let released: Vec<_> = free.regions.drain(..unused).collect();
        free.kept -= released.iter().map(|region| region.kept).sum::<usize>();
        free.unused = free.regions.len();
        drop(free);
        drop(released);
    }

    /// Unmaps all unused regions.
    pub fn release(&self) {
        let released = std::mem::take(&mut *self.free());
        drop(released);
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes or maps a region, of which this many bytes are open.
    fn take(&self, shape: Shape, open: usize) -> io::Result<Region> {
        let mut free = self.free();
        let place = free.regions.iter().rposition(|region| region.shape == shape);
        let found = place.map(|place| free.regions.remove(place));
        if let (Some(place), Some(region)) = (place, &found) {
            free.unused -= usize::from(place < free.unused);
            free.kept -= region.kept;
        }
        drop(free);
        let mut region = match found {
            Some(region) => region,
            None => Region::map(shape).map_err(named)?,
        };
        let open = open.next_multiple_of(self.page);
        if open < region.open {
            // What cannot be accessed must not be in memory either.
            region.give_back(open..region.open)?;
        }
        region.open(open)?;
        Ok(region)
    }

    /// Keeps a region for the next instance, unless enough is kept.
    fn give(&self, region: Region) {
        let mut free = self.free();
        if free.kept + region.kept <= self.most {
            free.kept += region.kept;
            free.regions.push(region);
        }
    }

    /// Makes all of a region zero, as it was when it was mapped.
    fn wipe(&self, region: &mut Region) -> io::Result<()> {
        if region.is_spoiled {
            return Err(io::ErrorKind::InvalidData.into());
        }
        region.kept = 0;
        let all = region.open;
        let Some(page_map) = &self.page_map else { return region.give_back(0..all) };
        let looked_at = all.min(PAGES * self.page);
        if looked_at < all {
            region.give_back(looked_at..all)?;
        }
        let mut kept = 0;
        let touched = page_map.touched(region.start(), looked_at / self.page, |pages| {
            if kept + pages.len() > KEPT {
                return region.give_back(pages);
            }
            kept += pages.len();
            region.clear(pages);
            Ok(())
        });
        if touched.is_err() {
            return region.give_back(0..all);
        }
        region.kept = kept;
        Ok(())
    }
}

/// Returns whether the file is the map of this process. It is, if it distinguishes a touched page from an untouched one.
fn is_right(map: &PageMap) -> io::Result<bool> {
    let page = map.page;
    let shape = Shape { length: 2 * page, ..Shape::default() };
    let mut region = Region::map(shape)?;
    region.open(shape.length)?;
    region.clear(page..2 * page);
    let mut touched = Vec::new();
    map.touched(region.start(), 2, |pages| {
        touched.push(pages);
        Ok(())
    })?;
    Ok(matches!(&touched[..], [one] if *one == (page..2 * page)))
}

/// Linear memory of an instance.
struct Memory {
    slots: Arc<Slots>,
    region: Region,
    /// Size in bytes.
    size: usize,
}

impl Drop for Memory {
    fn drop(&mut self) {
        let mut region = std::mem::take(&mut self.region);
        // If wiping fails, the region is not used again.
        if self.slots.wipe(&mut region).is_ok() {
            self.slots.give(region);
        }
    }
}

// SAFETY: `byte_capacity` bytes from `as_ptr` on belong to this value alone, followed by the guard that Wasmtime requires. The
// first `byte_size` are accessible and were zero. The address does not change.
unsafe impl LinearMemory for Memory {
    fn byte_size(&self) -> usize {
        self.size
    }

    fn byte_capacity(&self) -> usize {
        self.region.shape.length
    }

    fn grow_to(&mut self, size: usize) -> wasmtime::Result<()> {
        self.region.open(size.next_multiple_of(self.slots.page))?;
        self.size = size;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.region.at(0)
    }
}

const NO_ADDRESSES: &str = "no addresses are left for another instance";

/// Names the reason if the kernel has no range of addresses for a region.
fn named(error: io::Error) -> io::Error {
    match error.kind() {
        kind @ io::ErrorKind::OutOfMemory => io::Error::new(kind, NO_ADDRESSES),
        _ => error,
    }
}

/// Returns whether an instance was not made because no range of addresses was left for its memory or its stack. Each memory reserves
/// 4 GiB of them, and a kernel for small boards may have 512 GiB for a process.
pub fn lacked_addresses(error: &wasmtime::Error) -> bool {
    // Wasmtime keeps only the text of an error of `Memories`. The other error is that of its own memories.
    error.chain().any(|cause| {
        cause.to_string().ends_with(NO_ADDRESSES) || cause.downcast_ref() == Some(&Errno::NOMEM)
    })
}

/// Creates linear memories.
pub struct Memories(pub Arc<Slots>);

// SAFETY: a region has the required length and guard, and a guard of the same size before it. It is zero, because it was mapped
// so, and has been wiped since.
unsafe impl MemoryCreator for Memories {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved: Option<usize>,
        guard: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let length = reserved.unwrap_or(minimum).max(minimum).next_multiple_of(self.0.page);
        let region =
            self.0.take(Shape { is_stack: false, before: guard, length, after: guard }, minimum);
        let region = region.map_err(|error| format!("memory for an instance: {error}"))?;
        Ok(Box::new(Memory { slots: self.0.clone(), region, size: minimum }))
    }
}

/// Stack for functions of an instance and of the host.
struct Stack {
    slots: Arc<Slots>,
    region: Region,
}

impl Drop for Stack {
    fn drop(&mut self) {
        // It is not wiped, because no guest can read it: each function writes a value there before it reads it.
        let region = std::mem::take(&mut self.region);
        if give_back_depth(&region, self.slots.page).is_ok() {
            self.slots.give(region);
        }
    }
}

/// Releases the part of a stack that is not kept. Few guests go so deep, and releasing pages that do not exist takes longer than
/// to check one page: code that goes deeper touches each page on the way (stack probes).
fn give_back_depth(stack: &Region, page: usize) -> io::Result<()> {
    let depth = stack.open.saturating_sub(STACK);
    match depth.checked_sub(page).map(|last| stack.is_resident(last)) {
        None | Some(Ok(false)) => Ok(()),
        _ => stack.give_back(0..depth),
    }
}

// SAFETY: the whole range is open, consists of whole pages, and belongs to this value alone. Nothing below it is accessible.
unsafe impl StackMemory for Stack {
    fn top(&self) -> *mut u8 {
        self.region.at(self.region.open)
    }

    fn range(&self) -> Range<usize> {
        self.region.start()..self.region.start() + self.region.open
    }

    fn guard_range(&self) -> Range<*mut u8> {
        ptr::with_exposed_provenance_mut(self.region.address)..self.region.at(0)
    }
}

/// Creates stacks.
pub struct Stacks(pub Arc<Slots>);

// SAFETY: as for `Stack`. It has whole pages, which are released first if they must be zero.
unsafe impl StackCreator for Stacks {
    fn new_stack(&self, size: usize, zeroed: bool) -> wasmtime::Result<Box<dyn StackMemory>> {
        let length = size.next_multiple_of(self.0.page);
        let shape = Shape { is_stack: true, before: self.0.page, length, after: 0 };
        let mut region = self.0.take(shape, length)?;
        region.kept = STACK;
        if zeroed {
            region.give_back(0..length)?;
        }
        Ok(Box::new(Stack { slots: self.0.clone(), region }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A multiple of every page size.
    const SHAPE: Shape =
        Shape { is_stack: false, before: LARGEST_PAGE, length: 64 << 20, after: LARGEST_PAGE };

    fn with_page_map() -> Arc<Slots> {
        let slots = Slots::new(Some(File::open("/proc/self/pagemap").expect("a page map")));
        assert!(slots.page_map.is_some(), "{slots:?}");
        slots
    }

    fn memory(slots: &Arc<Slots>, bytes: usize) -> Memory {
        Memory {
            slots: slots.clone(),
            region: slots.take(SHAPE, bytes).expect("taken"),
            size: bytes,
        }
    }

    /// The bytes that the guest of this memory can access.
    fn bytes(memory: &mut Memory) -> &mut [u8] {
        // SAFETY: it is open, and has a single owner.
        unsafe { std::slice::from_raw_parts_mut(memory.as_ptr(), memory.byte_size()) }
    }

    /// Number of its pages that are in memory.
    fn resident(memory: &Memory) -> usize {
        let mut pages = vec![0_u8; memory.size / memory.slots.page];
        let start = memory.as_ptr().cast();
        // SAFETY: the result for each page is one byte.
        let result = unsafe { nix::libc::mincore(start, memory.size, pages.as_mut_ptr()) };
        assert_eq!(result, 0);
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn the_next_instance_finds_zeros_wherever_the_one_before_wrote() {
        for slots in [with_page_map(), Slots::new(None)] {
            let page = slots.page;
            for step in [page, 3 * page, 7 * page + 5, 1 << 20] {
                for size in [16 * page, 1 << 20, 9 << 20] {
                    let mut written = memory(&slots, 64 << 10);
                    written.grow_to(size).expect("grows");
                    bytes(&mut written).iter_mut().step_by(step).for_each(|byte| *byte = 7);
                    let place = written.as_ptr();
                    drop(written);
                    let mut next = memory(&slots, size);
                    assert_eq!(next.as_ptr(), place, "the same region");
                    assert!(bytes(&mut next).iter().all(|byte| *byte == 0), "{step} {size}");
                }
            }
        }
    }

    #[test]
    fn pages_are_kept_for_the_next_instance_up_to_a_limit() {
        let slots = with_page_map();
        let page = slots.page;
        let mut few = memory(&slots, 2 << 20);
        bytes(&mut few)[..10 * page].fill(7);
        bytes(&mut few)[1 << 20] = 7;
        drop(few);
        let mut many = memory(&slots, 2 << 20);
        assert_eq!(resident(&many), 11);
        bytes(&mut many).fill(7);
        drop(many);
        assert!(resident(&memory(&slots, 2 << 20)) <= KEPT / page);
        drop(memory(&slots, page));
        assert!(resident(&memory(&slots, 2 << 20)) <= 1, "what a smaller one had no use for");
    }

    #[test]
    fn what_is_not_needed_is_unmapped() {
        let slots = with_page_map();
        let (one, other) = (memory(&slots, 1), memory(&slots, 1));
        drop((one, other));
        slots.release_unused();
        assert_eq!(slots.free().regions.len(), 2, "they were needed before");
        drop(memory(&slots, 1));
        slots.release_unused();
        assert_eq!(slots.free().regions.len(), 1, "one was enough");
        slots.release();
        assert!(slots.free().regions.is_empty());
        assert_eq!(slots.free().kept, 0);
    }

    #[test]
    fn not_more_is_kept_than_may_be() {
        let slots = with_page_map();
        let mut many: Vec<_> = (0..20).map(|_| memory(&slots, KEPT)).collect();
        many.iter_mut().for_each(|memory| bytes(memory).fill(7));
        drop(many);
        assert_eq!(slots.free().kept, KEPT_OF_ALL);
        assert_eq!(slots.free().regions.len(), KEPT_OF_ALL / KEPT);
    }

    #[test]
    fn a_stack_is_given_back_as_far_as_it_was_used_deeply() {
        let slots = with_page_map();
        let resident = |stack: &Region, offset| stack.is_resident(offset).expect("reported");
        for depth in [STACK, STACK + 1, 4 * STACK] {
            let stack = Stacks(slots.clone()).new_stack(8 * STACK, false).expect("a stack");
            let bottom = stack.range().start;
            let start = 8 * STACK - depth;
            let used = ptr::with_exposed_provenance_mut::<u8>(bottom + start);
            // SAFETY: the whole stack is open, and nothing runs on it.
            unsafe { used.write_bytes(7, depth) };
            drop(stack);
            let free = slots.free();
            let stack = free.regions.last().expect("is kept");
            assert_eq!(stack.start(), bottom);
            assert!(resident(stack, 7 * STACK), "the kept part");
            let lowest = start / slots.page * slots.page;
            assert_eq!(resident(stack, lowest), depth == STACK, "{depth}");
        }
    }

    #[test]
    fn the_page_map_of_another_process_is_not_believed() {
        let parent = format!("/proc/{}/pagemap", std::os::unix::process::parent_id());
        let other = File::open(parent).expect("a page map");
        assert!(Slots::new(Some(other)).page_map.is_none());
    }

    #[test]
    fn a_smaller_memory_ends_where_it_says() {
        let slots = with_page_map();
        drop(memory(&slots, 1 << 20));
        let small = memory(&slots, 64 << 10);
        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let start = small.region.start();
        let expected = format!("{start:x}-{:x} rw-p", start + (64 << 10));
        assert!(maps.contains(&expected), "no {expected} in {maps}");
    }
}
