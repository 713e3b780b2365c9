//! Guests under a memory limit: what they are refused, and what is said of it.

use crate::{AS_IT_IS, End, Start, end, start};

const MIB: u64 = 1 << 20;

/// Grows by 1 MiB until it is refused or has `most`, then exits with how many there were.
fn growing(most: u32) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 16)
            (func (export "_start") (local $had i32)
                (local.set $had (i32.const 1))
                (block $done (loop $more
                    (br_if $done (i32.ge_u (local.get $had) (i32.const {most})))
                    (br_if $done (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))
                    (local.set $had (i32.add (local.get $had) (i32.const 1)))
                    (br $more)))
                ;; It may try as often as it likes.
                (drop (memory.grow (i32.const 65535)))
                (drop (memory.grow (i32.const 65535)))
                (call $exit (local.get $had))))"#
    )
}

fn within(memory: Option<u64>, guest: &str) -> End {
    end(start(guest, &Start { memory, ..AS_IT_IS }))
}

#[test]
fn a_guest_is_refused_more_than_its_part_of_the_limit_and_told_once() {
    let end = within(Some(96 * MIB), &growing(200));
    assert_eq!(end.code, Some(88), "{end:?}");
    assert_eq!(end.stderr.matches("resources.limits.memory").count(), 1, "{end:?}");
    assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
}

#[test]
fn without_a_limit_nothing_is_refused_or_said() {
    let end = within(None, &growing(200));
    assert_eq!((end.code, end.stderr.as_str()), (Some(200), ""), "{end:?}");
}

#[test]
fn a_guest_that_is_larger_than_its_part_from_the_start_is_told_as_well() {
    let large = r#"(module (memory 1600) (func (export "_start")))"#;
    let end = within(Some(96 * MIB), large);
    assert_eq!(end.code, Some(126), "{end:?}");
    assert!(end.stderr.contains("resources.limits.memory"), "{end:?}");
}
