//! Guests whose code is made in another way: with other proposals of WebAssembly, and with fuel.

use std::fs;

use crate::command::{RUN_02, RUN_03, command};
use crate::{AS_IT_IS, End, Start, end, start};

fn run(guest: &str, how: &Start<'_>) -> End {
    end(start(guest, how))
}

/// A module that exits with the low byte of a product of 128 bits.
const WIDE: &str = r#"(module
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func (export "_start") (local $low i64)
        (i64.mul_wide_u (i64.const 6) (i64.const 7))
        drop
        (local.set $low)
        (call $exit (i32.wrap_i64 (local.get $low)))))"#;

#[test]
fn a_guest_runs_with_what_it_asked_for_beyond_webassembly_3() {
    let wide = Start { annotations: &[("features", "wasm3, wide-arithmetic")], ..AS_IT_IS };
    assert_eq!(run(WIDE, &wide).code, Some(42));
    for (interface, effect) in [(RUN_02, ""), (RUN_03, "async")] {
        let body = "(i64.mul_wide_u (i64.const 6) (i64.const 7)) drop drop i32.const 0";
        let end = run(&command(interface, effect, body), &wide);
        assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{interface}: {end:?}");
    }
}

#[test]
fn a_guest_runs_with_less_than_webassembly_3() {
    let narrow = Start { annotations: &[("features", "")], ..AS_IT_IS };
    let end = run(&command(RUN_02, "", "i32.const 0"), &narrow);
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{end:?}");
    let tail = r#"(module (func $f (export "_start") (return_call $g)) (func $g))"#;
    assert_eq!(
        run(tail, &Start { annotations: &[("features", "tail-call")], ..AS_IT_IS }).code,
        Some(0)
    );
}

/// Two components of which one calls the other with a text, which Wasmtime copies from one memory into the other.
const COMPOSED: &str = r#"(component
    (component $library
        (core module $m
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "length") (param i32 i32) (result i32) (local.get 1)))
        (core instance $i (instantiate $m))
        (func (export "length") (param "text" string) (result u32)
            (canon lift (core func $i "length")
                (memory (core memory $i "memory")) (realloc (core func $i "realloc")))))
    (component $application
        (import "length" (func $length (param "text" string) (result u32)))
        (core module $memory (memory (export "memory") 1) (data (i32.const 8) "hello"))
        (core instance $memory (instantiate $memory))
        (core func $length
            (canon lower (func $length) (memory (core memory $memory "memory"))))
        (core module $m
            (import "host" "length" (func $length (param i32 i32) (result i32)))
            (func (export "count") (result i32) (call $length (i32.const 8) (i32.const 5))))
        (core instance $i (instantiate $m (with "host" (instance
            (export "length" (func $length))))))
        (func (export "count") (result u32) (canon lift (core func $i "count"))))
    (instance $library (instantiate $library))
    (instance $application (instantiate $application (with "length" (func $library "length"))))
    (export "count" (func $application "count")))"#;

#[test]
fn components_call_each_other_whatever_their_guest_may_use_of_webassembly() {
    for features in ["", "gc", "wasm3, custom-page-sizes"] {
        let annotations = &[("features", features)];
        let how = Start { export: Some("count"), annotations, ..AS_IT_IS };
        let end = run(COMPOSED, &how);
        assert_eq!((end.code, end.stdout.as_str()), (Some(0), "5\n"), "{features}: {end:?}");
    }
}

/// A guest that never ends by itself.
const ENDLESS: &str = r#"(module (func $spin (export "_start") (loop $again (br $again))))"#;

#[test]
fn a_guest_that_has_used_up_its_fuel_ends_with_124_and_the_name_of_the_setting() {
    let component = command(RUN_02, "", "(loop $again (br $again)) unreachable");
    for guest in [ENDLESS, &component] {
        let directory = tempfile::tempdir().expect("a directory");
        let artifacts = Some(directory.path());
        let end = run(guest, &Start { annotations: &[("fuel", "100000")], artifacts, ..AS_IT_IS });
        assert_eq!(end.code, Some(124), "{end:?}");
        let text = "error: the guest has used up its fuel of 100000 (annotation of the Pod, wasmtime.shim/fuel)\n";
        assert!(end.stderr.contains(text), "{end:?}");
        assert!(end.stderr.contains("wasm backtrace"), "{end:?}");
        let message = fs::read_to_string(directory.path().join("message")).expect("a message");
        assert!(message.contains(text), "{message}");
    }
}

#[test]
fn a_guest_with_enough_fuel_ends_as_usual() {
    let enough = Start { annotations: &[("fuel", "1000000")], ..AS_IT_IS };
    for (interface, effect) in [(RUN_02, ""), (RUN_03, "async")] {
        let end = run(&command(interface, effect, "i32.const 0"), &enough);
        assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{interface}: {end:?}");
    }
    let both = [("features", "wasm3, wide-arithmetic"), ("fuel", "1000000")];
    let both = Start { annotations: &both, ..AS_IT_IS };
    assert_eq!(run(WIDE, &both).code, Some(42));
}

#[test]
fn fuel_counts_the_start_function_and_an_export_as_well() {
    let module = r#"(module
        (func $spin (loop $again (br $again)))
        (start $spin)
        (func (export "job")))"#;
    let end =
        run(module, &Start { export: Some("job"), annotations: &[("fuel", "1000")], ..AS_IT_IS });
    assert_eq!(end.code, Some(124), "{end:?}");
    let job = ENDLESS.replace("_start", "job");
    let end =
        run(&job, &Start { export: Some("job"), annotations: &[("fuel", "1000")], ..AS_IT_IS });
    assert_eq!(end.code, Some(124), "{end:?}");
}
