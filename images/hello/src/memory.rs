//! Allocates memory, and either accepts or ignores a refusal.

use std::time::Duration;

use crate::{Outcome, say};

const MEBIBYTE: usize = 1 << 20;

/// Allocates and touches this much memory. The guest aborts if memory runs out.
pub fn allocate(mebibytes: usize) -> Outcome {
    let memory = vec![1_u8; mebibytes << 20];
    say(&format!("{} MiB\n", std::hint::black_box(memory).len() >> 20))
}

/// Allocates and touches memory until a request is refused, and continues with what it has.
pub fn fill() -> Outcome {
    let mut blocks = Vec::new();
    while let Some(block) = mebibyte() {
        blocks.push(block);
    }
    say(&format!("{} MiB and no more\n", std::hint::black_box(blocks).len()))
}

/// Allocates and touches this much memory. If a request is refused, prints that and tries again until it succeeds.
pub fn fill_to(mebibytes: usize) -> Outcome {
    let mut blocks = Vec::with_capacity(mebibytes);
    let mut waits = false;
    while blocks.len() < mebibytes {
        match mebibyte() {
            Some(block) => blocks.push(block),
            None => {
                if !std::mem::replace(&mut waits, true) {
                    say(&format!("waiting with {} MiB\n", blocks.len()))?;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
    say(&format!("{} MiB\n", std::hint::black_box(blocks).len()))
}

/// Returns touched memory, or `None` if it was refused.
fn mebibyte() -> Option<Vec<u8>> {
    let mut block = Vec::new();
    block.try_reserve_exact(MEBIBYTE).ok()?;
    block.resize(MEBIBYTE, 1);
    Some(block)
}
