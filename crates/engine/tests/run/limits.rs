//! Guests under limits of time, memory and lines.

use std::io::Read;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::{AS_IT_IS, End, Start, end, send, start};

fn limited(guest: &str, annotations: &[(&str, &str)]) -> End {
    end(start(guest, &Start { annotations, ..AS_IT_IS }))
}

/// Writes each text to a stream, and then runs the rest.
fn writing(texts: &[(u8, &str, u32)], rest: &str) -> String {
    let mut writes = String::new();
    let mut data = String::new();
    let mut at = 64;
    for (stream, text, times) in texts {
        let length = text.replace("\\0a", "\n").len();
        data += &format!(r#"(data (i32.const {at}) "{text}")"#);
        writes += &format!(
            "(local.set $left (i32.const {times}))
             (loop $more
                (call $write (i32.const {stream}) (i32.const {at}) (i32.const {length}))
                (br_if $more (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))"
        );
        at += length;
    }
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            {data}
            (func $write (param i32 i32 i32)
                (i32.store (i32.const 0) (local.get 1))
                (i32.store (i32.const 4) (local.get 2))
                (drop (call $fd_write (local.get 0) (i32.const 0) (i32.const 1) (i32.const 8))))
            (func (export "_start") (local $left i32) {writes} {rest}))"#
    )
}

const LOOP: &str = "(loop $forever br $forever)";

#[test]
fn a_guest_in_a_loop_is_ended_when_its_time_is_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let guest = writing(&[(2, "spinning\\0a", 1), (1, "no line end", 1)], LOOP);
    let how =
        Start { annotations: &[("timeout", "1s")], artifacts: Some(directory.path()), ..AS_IT_IS };
    let since = Instant::now();
    let end = end(start(&guest, &how));
    assert!(since.elapsed() > Duration::from_secs(1), "{end:?}");
    assert_eq!(end.code, Some(124), "{end:?}");
    let line = "error: the guest was ended after 1s, its time limit (annotation of the Pod, wasmtime.shim/timeout)";
    assert_eq!(end.stderr, format!("spinning\n{line}\n"));
    assert!(end.stdout.ends_with("no line end"), "{end:?}");
    let message = std::fs::read_to_string(directory.path().join("message")).expect("is there");
    assert_eq!(message, format!("spinning\n{line}"));
}

#[test]
fn a_guest_that_waits_is_ended_too_and_one_that_ends_in_time_is_not() {
    let wait = |seconds: u64| {
        format!(
            r#"(module
                (import "wasi_snapshot_preview1" "poll_oneoff"
                    (func $poll (param i32 i32 i32 i32) (result i32)))
                (memory (export "memory") 1)
                (func (export "_start")
                    (i32.store (i32.const 16) (i32.const 1))
                    (i64.store (i32.const 24) (i64.const {seconds}000000000))
                    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#
        )
    };
    let end = limited(&wait(100), &[("timeout", "500ms")]);
    assert_eq!(end.code, Some(124), "{end:?}");
    let end = limited(&wait(1), &[("timeout", "1m")]);
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{end:?}");
}

#[test]
fn a_guest_whose_output_is_not_read_is_ended_all_the_same() {
    let guest = writing(
        &[(2, "flood\\0a", 1)],
        "(loop $f (call $write (i32.const 2) (i32.const 64) (i32.const 6)) (br $f))",
    );
    let mut child = start(&guest, &Start { annotations: &[("timeout", "1s")], ..AS_IT_IS });
    let since = Instant::now();
    let code = loop {
        if let Some(status) = child.try_wait().expect("is known") {
            break status.code();
        }
        assert!(since.elapsed() < Duration::from_secs(30), "it goes on");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(code, Some(124));
}

#[test]
fn an_exports_call_has_the_same_limit() {
    let guest = r#"(module (func (export "job") (loop $forever br $forever)))"#;
    let how = Start { export: Some("job"), annotations: &[("timeout", "500ms")], ..AS_IT_IS };
    assert_eq!(end(start(guest, &how)).code, Some(124));
}

/// Grows by a page as often as it can, and exits with the number of pages.
const GROWING: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (loop $more (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0))))
        (call $exit (memory.size))))"#;

#[test]
fn a_guest_has_no_more_memory_than_it_is_granted_or_its_container_has() {
    let end = limited(GROWING, &[("max-memory", "1Mi")]);
    assert_eq!(end.code, Some(16), "{end:?}");
    let expected = "warning: the guest is refused more memory: 1Mi are for all its instances (annotation of the Pod, \
                    wasmtime.shim/max-memory)\n";
    assert_eq!(end.stderr, expected);
    let memory = Some(12 << 20);
    let how = Start { memory, annotations: &[("max-memory", "1Gi")], ..AS_IT_IS };
    let end = crate::end(start(GROWING, &how));
    assert_eq!(end.code, Some(96), "{end:?}");
    assert!(end.stderr.contains("resources.limits.memory"), "{end:?}");
    let how = Start { memory: Some(96 << 20), annotations: &[("max-memory", "2Mi")], ..AS_IT_IS };
    let end = crate::end(start(GROWING, &how));
    assert_eq!(end.code, Some(32), "{end:?}");
    assert!(end.stderr.contains("wasmtime.shim/max-memory"), "{end:?}");
}

#[test]
fn a_table_counts_as_memory() {
    let guest = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (table $table 0 funcref)
        (func (export "_start")
            (loop $more (br_if $more (i32.ge_s
                (table.grow $table (ref.null func) (i32.const 8192)) (i32.const 0))))
            (call $exit (i32.div_u (table.size $table) (i32.const 8192)))))"#;
    // 64 KiB are of the memory, and so is each growth of the table.
    let end = limited(guest, &[("max-memory", "1Mi")]);
    assert_eq!(end.code, Some(15), "{end:?}");
    assert!(end.stderr.contains("wasmtime.shim/max-memory"), "{end:?}");
}

#[test]
fn lines_beyond_the_rate_are_dropped_and_counted_and_the_last_ones_are_not_lost() {
    let texts = [(1, "out\\0a", 30), (2, "err\\0a", 70), (2, "the reason\\0a", 1)];
    let end = limited(&writing(&texts, "(call $exit (i32.const 3))"), &[("log-rate", "40")]);
    assert_eq!(end.code, Some(3), "{end:?}");
    assert_eq!(end.stdout.matches("out\n").count(), 30, "{end:?}");
    // On a machine that pauses, the guest has another second and so more lines.
    let begun = end.stderr.find("warning: ").expect("a report");
    let (written, rest) = end.stderr.split_at(begun);
    let written = written.lines().count();
    let report = format!(
        "warning: {} lines were dropped: the guest may write 40 a second (annotation of the Pod, wasmtime.shim/log-rate)\n",
        71 - written
    );
    assert!(written >= 10 && rest.starts_with(&report), "{end:?}");
    assert!(rest.contains("the last lines on stderr were:\n"), "{end:?}");
    assert!(rest.ends_with("err\nthe reason\n"), "{end:?}");
}

#[test]
fn the_last_lines_are_not_lost_if_the_guest_ends_long_after_them() {
    let texts = [(2, "err\\0a", 5), (2, "the reason\\0a", 1)];
    let how = Start { annotations: &[("log-rate", "2")], ..AS_IT_IS };
    let mut child = start(&writing(&texts, LOOP), &how);
    let mut said = String::new();
    while !said.contains(" dropped: ") || !said.ends_with('\n') {
        let mut byte = [0];
        child.stderr.as_mut().expect("stderr").read_exact(&mut byte).expect("it runs");
        said.push(byte[0].into());
    }
    send(&child, Signal::SIGTERM);
    let end = end(child);
    assert_eq!(end.code, Some(143), "{said} {end:?}");
    assert!(end.stderr.ends_with("err\nthe reason\n"), "{said} {end:?}");
}

#[test]
fn a_trap_is_reported_in_full_whatever_the_rate_is() {
    let end = limited(&writing(&[(2, "err\\0a", 5)], "unreachable"), &[("log-rate", "1")]);
    assert_eq!(end.code, Some(134), "{end:?}");
    assert!(end.stderr.starts_with("err\n") && end.stderr.contains(" dropped: "), "{end:?}");
    assert!(end.stderr.contains("wasm trap") && end.stderr.contains("wasm backtrace"), "{end:?}");
}

#[test]
fn a_flood_is_reported_each_second_and_at_a_signal() {
    let flood = "(loop $f (call $write (i32.const 1) (i32.const 64) (i32.const 2)) (br $f))";
    let guest = writing(&[(2, "x\\0a", 1)], flood);
    let mut child = start(&guest, &Start { annotations: &[("log-rate", "100")], ..AS_IT_IS });
    // The report of the first second, in the second one.
    let mut said = String::new();
    while said.matches("lines were dropped").count() < 2 {
        let mut byte = [0];
        child.stderr.as_mut().expect("stderr").read_exact(&mut byte).expect("it runs");
        said.push(byte[0].into());
    }
    // Until some of the next second are dropped.
    std::thread::sleep(Duration::from_millis(500));
    send(&child, Signal::SIGTERM);
    let end = end(child);
    assert_eq!(end.code, Some(143), "{end:?}");
    assert!(end.stderr.contains("lines were dropped"), "{end:?}");
    assert!(end.stdout.lines().count() < 1000, "{}", end.stdout.lines().count());
}
