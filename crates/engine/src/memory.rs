//! How much memory a guest may have: the container's limit minus the runtime's part, or what the grants say if that is
//! less.
//!
//! If a container exceeds its limit, the kernel kills the process, and no code in the process can report why. So this
//! limit is lower. At this limit, `memory.grow` fails as on a machine that has no more memory. A guest may manage with
//! what it has, and its stderr says what to do.
//!
//! The container's limit is the process's `RLIMIT_RSS`. Linux itself ignores that limit (getrlimit(2)). It is set
//! before the first guest runs, and it may be changed from outside while the guest runs (prlimit(2)). So it is read
//! again whenever it matters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Once, OnceLock};

use grants::quantity::Memory as Size;
use grants::{Giver, Limit};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use wasmtime::ResourceLimiter;

use crate::report::log;

/// What the runtime itself needs of a container's limit: pages of the engine that a run changes, the event loop,
/// stacks, page tables, and buffers of the guest's files and sockets. A command was seen to take 1 MiB, a server with
/// 16 requests in flight 2 MiB.
const RUNTIME: u64 = 8 << 20;

/// The bytes of an element of a table.
const TABLE_ELEMENT: u64 = size_of::<usize>() as u64;

/// The settings that limit a guest's memory, for errors.
pub const SETTINGS: &str = "resources.limits.memory, or wasmtime.shim/max-memory";

/// Less than this is not worth a look at the limit: the runtime itself needs more.
const ALWAYS: u64 = 4 << 20;

/// The limit of the grants, in bytes, and who gave it. Not set if there is none.
static GRANTED: OnceLock<(Size, Giver)> = OnceLock::new();

/// The refusal is logged once a run, whichever of its instances is refused, and however often.
static LOGGED: Once = Once::new();

/// What the instances of a process have together, in bytes.
#[derive(Debug)]
struct Together {
    /// What instances began with. Most of it is not touched.
    initial: AtomicU64,
    /// What instances have grown by since.
    grown: AtomicU64,
    /// What the runtime has on their behalf.
    reserved: AtomicU64,
}

impl Together {
    const fn nothing() -> Together {
        Together {
            initial: AtomicU64::new(0),
            grown: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
        }
    }

    /// All of it.
    fn all(&self) -> u64 {
        self.initial.load(Ordering::Relaxed).saturating_add(self.touched())
    }

    /// All but what instances began with.
    fn touched(&self) -> u64 {
        let (grown, reserved) = (&self.grown, &self.reserved);
        grown.load(Ordering::Relaxed).saturating_add(reserved.load(Ordering::Relaxed))
    }
}

static TOGETHER: Together = Together::nothing();

/// What is compared with the limits, in bytes.
#[derive(Debug, Clone, Copy)]
struct Use {
    /// What all instances have, with what they began with: the kernel bounds it only if the container has a limit.
    all: u64,
    /// The same without what other instances began with.
    touched: u64,
}

/// Limits the guest of this process to what is granted. To be called once, before its first instance.
pub fn grant(limit: &Limit<Size>) {
    if let Some(granted) = limit.get() {
        let _ = GRANTED.set(granted);
    }
}

/// What a guest has reached: one of the limits of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// The container's limit.
    Container(u64),
    /// The limit of the grants.
    Granted(Size, Giver),
}

/// The limit that this use exceeds, if there is one.
fn reached(used: Use) -> Option<Reached> {
    exceeded(used, GRANTED.get().copied(), limit)
}

fn exceeded(
    used: Use,
    granted: Option<(Size, Giver)>,
    container: impl FnOnce() -> Option<u64>,
) -> Option<Reached> {
    match granted {
        Some((most, giver)) if used.all > most.bytes() => Some(Reached::Granted(most, giver)),
        _ if used.touched <= ALWAYS => None,
        _ => container().filter(|limit| used.touched > share(*limit)).map(Reached::Container),
    }
}

/// Of all instances that there are, in bytes.
pub fn of_all() -> u64 {
    TOGETHER.initial.load(Ordering::Relaxed) + TOGETHER.grown.load(Ordering::Relaxed)
}

/// The memory of one instance, the linear memories and tables of all its modules together.
#[derive(Debug)]
pub struct Memory {
    together: &'static Together,
    initial: u64,
    grown: u64,
    /// Whether the instance is made, so that a memory that is empty grows and does not begin.
    is_made: bool,
    /// Whether it was refused what it would have had without other instances.
    lacked_room: bool,
}

impl Default for Memory {
    fn default() -> Memory {
        Memory::of(&TOGETHER)
    }
}

/// What the runtime has of the guest's part of the limit, on the guest's behalf, in bytes.
#[derive(Debug)]
pub struct Reserved {
    together: &'static Together,
    bytes: u64,
}

impl Default for Reserved {
    fn default() -> Reserved {
        Reserved { together: &TOGETHER, bytes: 0 }
    }
}

impl Reserved {
    /// Has so many bytes from now on. Returns whether it may; fewer than before it may always.
    pub fn resize(&mut self, bytes: u64) -> bool {
        self.resize_within(bytes, reached)
    }

    fn resize_within(&mut self, bytes: u64, reached: impl FnOnce(Use) -> Option<Reached>) -> bool {
        let (more, together) = (bytes.saturating_sub(self.bytes), self.together);
        together.reserved.fetch_add(more, Ordering::Relaxed);
        let used = Use { all: together.all(), touched: together.touched() };
        if more > 0 && reached(used).is_some() {
            together.reserved.fetch_sub(more, Ordering::Relaxed);
            return false;
        }
        together.reserved.fetch_sub(self.bytes.saturating_sub(bytes), Ordering::Relaxed);
        self.bytes = bytes;
        true
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.together.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The container's limit in bytes, if there is one.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::RLIMIT_RSS).ok().map(|(soft, _)| soft).filter(|soft| *soft != RLIM_INFINITY)
}

/// The guest's part of it: all but the runtime's, and at least half, so that a limit which is too small for both
/// is met by the kernel.
fn share(limit: u64) -> u64 {
    limit - RUNTIME.min(limit / 2)
}

/// What a container's guests may have together, in bytes, if there is a limit.
pub fn for_guests() -> Option<u64> {
    let granted = GRANTED.get().map(|(most, _)| most.bytes());
    [limit().map(share), granted].into_iter().flatten().min()
}

impl Memory {
    fn of(together: &'static Together) -> Memory {
        Memory { together, initial: 0, grown: 0, is_made: false, lacked_room: false }
    }

    /// From now on, the instance grows. To be called when it is made.
    pub fn made(&mut self) {
        self.is_made = true;
    }

    /// Whether the instance was refused memory because of what others have.
    pub fn lacked_room(&self) -> bool {
        self.lacked_room
    }

    /// Whether the guest may have `desired` in place of `current` bytes, beside what other instances have.
    fn grow(
        &mut self,
        current: u64,
        desired: u64,
        reached: impl Fn(Use) -> Option<Reached>,
    ) -> bool {
        let (more, together) = (desired.saturating_sub(current), self.together);
        let is_initial = current == 0 && !self.is_made;
        let own = self.initial.saturating_add(self.grown).saturating_add(more);
        let counter = if is_initial { &together.initial } else { &together.grown };
        // Counted before it is looked at: of two that grow at the same time, both may be refused.
        counter.fetch_add(more, Ordering::Relaxed);
        let touched = match is_initial {
            true => own,
            false => self.initial.saturating_add(together.touched()),
        };
        if let Some(limit) = reached(Use { all: together.all(), touched }) {
            counter.fetch_sub(more, Ordering::Relaxed);
            self.lacked_room = reached(Use { all: own, touched: own }).is_none();
            LOGGED.call_once(|| log(&refusal(limit)));
            return false;
        }
        *(if is_initial { &mut self.initial } else { &mut self.grown }) += more;
        true
    }

    /// The same in units of so many bytes. What its own type forbids is no matter of the container's limit.
    fn grow_units(
        &mut self,
        unit: u64,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> bool {
        let bytes = |units: usize| (units as u64).saturating_mul(unit);
        maximum.is_none_or(|maximum| desired <= maximum)
            && self.grow(bytes(current), bytes(desired), reached)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.together.initial.fetch_sub(self.initial, Ordering::Relaxed);
        self.together.grown.fetch_sub(self.grown, Ordering::Relaxed);
    }
}

/// A failure of the kernel after the permission is not taken back: it leaves the guest, and the container's other
/// instances as long as this one lives, with less, never with more.
impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow_units(1, current, desired, maximum))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow_units(TABLE_ELEMENT, current, desired, maximum))
    }
}

fn refusal(reached: Reached) -> String {
    match reached {
        Reached::Container(limit) => format!(
            "warning: the guest is refused more memory: its container's limit is {}, of which {} are for all its \
             instances and the rest is for the runtime; a larger resources.limits.memory gives it more",
            size(limit),
            size(share(limit)),
        ),
        Reached::Granted(most, giver) => format!(
            "warning: the guest is refused more memory: {most} are for all its instances ({}, {})",
            giver.place(),
            provided::MAX_MEMORY.key,
        ),
    }
}

/// In the unit that most limits are written in.
fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Compares with a container's limit.
    fn container(limit: u64) -> impl Fn(Use) -> Option<Reached> + Copy {
        move |used| exceeded(used, None, || Some(limit))
    }

    /// Compares with a limit of the grants.
    fn granted(most: &str) -> impl Fn(Use) -> Option<Reached> + Copy {
        let most = most.parse().expect("a size");
        move |used| exceeded(used, Some((most, Giver::Pod)), || None)
    }

    fn nothing() -> &'static Together {
        Box::leak(Box::new(Together::nothing()))
    }

    fn made(mut memory: Memory) -> Memory {
        memory.made();
        memory
    }

    #[test]
    fn the_smaller_of_the_limits_applies_and_is_the_one_that_is_named() {
        let granted = |text: &str| Some((text.parse().expect("a size"), Giver::Pod));
        let reached = |bytes, most: &str| {
            exceeded(Use { all: bytes, touched: bytes }, granted(most), || Some(96 * MIB))
        };
        assert_eq!(reached(MIB, "1Mi"), None);
        assert!(matches!(reached(MIB + 1, "1Mi"), Some(Reached::Granted(_, Giver::Pod))));
        assert_eq!(reached(89 * MIB, "1Gi"), Some(Reached::Container(96 * MIB)));
        let text = refusal(reached(MIB + 1, "1Mi").expect("is too much"));
        assert!(text.contains("1Mi are for all"), "{text}");
        assert!(text.ends_with("(annotation of the Pod, wasmtime.shim/max-memory)"), "{text}");
    }

    #[test]
    fn the_runtime_has_its_part_and_the_guest_at_least_half() {
        assert_eq!(share(96 * MIB), 88 * MIB);
        assert_eq!(share(10 * MIB), 5 * MIB);
        assert_eq!(share(0), 0);
    }

    #[test]
    fn the_memories_of_an_instance_count_together() {
        let mut memory = Memory::of(nothing());
        assert!(memory.grow(0, 50 * MIB, container(96 * MIB)), "the first");
        assert!(memory.grow(0, 28 * MIB, container(96 * MIB)), "the second");
        assert!(!memory.grow(50 * MIB, 61 * MIB, container(96 * MIB)), "too much");
        assert!(memory.grow(50 * MIB, 60 * MIB, container(96 * MIB)), "just enough");
        assert!(
            memory.grow(60 * MIB, 61 * MIB, container(128 * MIB)),
            "after the limit was raised"
        );
        assert!(memory.grow(61 * MIB, 4096 * MIB, |_| None), "without a limit");
    }

    #[test]
    fn what_other_instances_have_grown_to_counts_until_they_end() {
        let together = nothing();
        let instance = || Memory::of(together);
        let limit = container(96 * MIB);
        let (mut one, mut other) = (instance(), instance());
        assert!(one.grow(0, 60 * MIB, limit) && other.grow(0, 60 * MIB, limit), "to begin with");
        assert!(one.grow(60 * MIB, 80 * MIB, limit));
        assert!(!other.grow(60 * MIB, 70 * MIB, limit), "the other has grown by 20");
        assert!(instance().grow(0, 70 * MIB, limit), "to begin with");
        drop(one);
        assert!(other.grow(60 * MIB, 70 * MIB, limit));
        drop(other);
        assert_eq!(together.all(), 0);

        // However little each has, and whether it began with nothing.
        let mut many: Vec<_> = (0..88).map(|_| made(instance())).collect();
        for one in &mut many {
            assert!(one.grow(0, 0, limit) && one.grow(0, MIB, limit));
        }
        assert!(!many[0].grow(MIB, 2 * MIB, limit));
    }

    #[test]
    fn an_empty_memory_beside_one_that_is_not_hides_no_growth() {
        let (together, limit) = (nothing(), container(96 * MIB));
        let mut one = Memory::of(together);
        assert!(one.grow(0, 0, limit) && one.grow(0, MIB, limit));
        let mut one = made(one);
        assert!(one.grow(0, 80 * MIB, limit));
        assert!(!made(Memory::of(together)).grow(0, 20 * MIB, limit), "the other has grown by 80");
    }

    #[test]
    fn a_granted_limit_bounds_what_all_instances_have_with_what_they_began_with() {
        let (together, limit) = (nothing(), granted("64Mi"));
        let instance = || Memory::of(together);
        let (mut one, mut other, mut third) = (instance(), instance(), instance());
        assert!(one.grow(0, 30 * MIB, limit) && other.grow(0, 30 * MIB, limit));
        assert!(!third.grow(0, 30 * MIB, limit) && third.lacked_room());
        assert!(!third.grow(0, 65 * MIB, limit) && !third.lacked_room(), "it is never made");
        assert!(!one.grow(30 * MIB, 35 * MIB, limit));
        let mut kept = Reserved { together, bytes: 0 };
        assert!(!kept.resize_within(5 * MIB, limit) && kept.resize_within(4 * MIB, limit));
        drop(other);
        assert!(one.grow(30 * MIB, 60 * MIB, limit));
        assert_eq!(together.all(), 64 * MIB);
    }

    #[test]
    fn what_is_kept_for_guests_and_what_they_grow_to_count_together() {
        let together = nothing();
        let limit = container(96 * MIB);
        let mut kept = Reserved { together, bytes: 0 };
        let mut instance = Memory::of(together);
        assert!(kept.resize_within(60 * MIB, limit));
        assert!(instance.grow(0, MIB, limit) && instance.grow(MIB, 20 * MIB, limit));
        assert!(!instance.grow(20 * MIB, 40 * MIB, limit), "60 are kept");
        assert!(!kept.resize_within(80 * MIB, limit), "the instance has grown by 19");
        assert!(kept.resize_within(30 * MIB, container(MIB)), "fewer than before");
        assert!(instance.grow(20 * MIB, 40 * MIB, limit));
        drop(kept);
        assert_eq!(together.touched(), 39 * MIB);
    }

    #[test]
    fn the_refusal_names_both_numbers_and_the_way_out() {
        let text = refusal(Reached::Container(96 * MIB));
        for part in ["88 MiB", "96 MiB", "resources.limits.memory"] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
}
