//! Traps some calls deep, so that the backtrace has names to show.

use crate::Outcome;

/// Ends in a trap that does not pass through the panic machinery.
#[inline(never)]
pub fn trap() -> Outcome {
    outer(std::hint::black_box(3));
    Ok(())
}

#[inline(never)]
fn outer(depth: u32) {
    middle(depth + 1);
    std::hint::black_box(depth);
}

#[inline(never)]
fn middle(depth: u32) {
    inner(depth + 1);
    std::hint::black_box(depth);
}

#[inline(never)]
fn inner(depth: u32) {
    if std::hint::black_box(depth) > 0 {
        unreachable();
    }
    std::hint::black_box(depth);
}

/// `std::process::abort` is WebAssembly's `unreachable` instruction.
#[inline(never)]
fn unreachable() -> ! {
    std::process::abort()
}
