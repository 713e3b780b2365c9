//! Guests that end by themselves: modules of WASI 0.1, commands of 0.2 and 0.3, exports.

use std::io::Read;

use nix::sys::signal::Signal;

use crate::{AS_IT_IS, Start, end, run, send, start};

#[test]
fn a_modules_own_exit_code_comes_back_whatever_it_is() {
    for code in [0, 1, 125, 126, 137, 255] {
        let end = run(&format!(
            r#"(module
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (func (export "_start") (call $exit (i32.const {code}))))"#
        ));
        assert_eq!((end.code, end.stderr.as_str()), (Some(code), ""), "{end:?}");
    }
}

#[test]
fn a_module_that_returns_has_ended_well_and_its_output_is_there() {
    let end = run(r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\0b\00\00\00no line end")
        (func (export "_start") (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 64)))))"#);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.ends_with("no line end"), "{end:?}");
}

#[test]
fn a_trap_is_exit_code_134_with_its_cause_and_the_names_of_functions_on_stderr() {
    let end = run(r#"(module
        (memory 1)
        (func $inner (drop (i32.load (i32.const 65536))))
        (func $outer (export "_start") call $inner))"#);
    assert_eq!(end.code, Some(134), "{end:?}");
    assert!(end.stderr.contains("out of bounds memory access"), "{end:?}");
    assert!(end.stderr.contains("inner") && end.stderr.contains("outer"), "{end:?}");
}

#[test]
fn a_stack_that_overflows_is_a_trap_as_any_other() {
    let end = run(r#"(module (func $deep (export "_start") call $deep))"#);
    assert_eq!(end.code, Some(134), "{end:?}");
    assert!(end.stderr.contains("call stack exhausted"), "{end:?}");
}

#[test]
fn an_export_of_a_module_is_called_after_it_was_initialized() {
    let reactor = r#"(module
        (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (global $code (mut i32) (i32.const 1))
        (func (export "_initialize") (global.set $code (i32.const 42)))
        (func (export "job") (call $exit (global.get $code))))"#;
    let end = end(start(reactor, &Start { export: Some("job"), ..AS_IT_IS }));
    assert_eq!(end.code, Some(42), "{end:?}");
}

#[test]
fn a_module_is_initialized_once_and_only_before_one_of_its_other_exports() {
    let module = |initialize: &str| {
        format!(
            r#"(module
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (global $times (mut i32) (i32.const 0))
                (func (export "_initialize")
                    (global.set $times (i32.add (global.get $times) (i32.const 1)))
                    {initialize})
                (func (export "times") (result i32) (global.get $times))
                (func (export "_start") (call $exit (global.get $times))))"#
        )
    };
    let call = |module: &str, export| end(start(module, &Start { export, ..AS_IT_IS }));
    let times = call(&module(""), Some("times"));
    assert_eq!((times.code, times.stdout.as_str()), (Some(0), "1\n"), "{times:?}");
    // A command is no reactor.
    assert_eq!(call(&module(""), None).code, Some(0));
    assert_eq!(call(&module("(call $exit (i32.const 7))"), Some("times")).code, Some(7));
    let trapped = call(&module("unreachable"), Some("times"));
    assert_eq!((trapped.code, trapped.stdout.as_str()), (Some(134), ""), "{trapped:?}");
    let bare = "(module (func (export \"_initialize\")) (func (export \"f\") (param i64 f32)))";
    let end = end(start(bare, &Start { export: Some("f"), args: &["-1", "0.5"], ..AS_IT_IS }));
    assert_eq!((end.code, end.stdout.as_str(), end.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn a_component_of_a_reactor_is_initialized_before_an_export_is_called() {
    // As wit-component makes it of a module with `_initialize`.
    let reactor = r#"(component
        (core module $m
            (global $base (mut i32) (i32.const 0))
            (func (export "_initialize") (global.set $base (i32.const 100)))
            (func (export "add") (param i32) (result i32)
                (i32.add (global.get $base) (local.get 0))))
        (core instance $i (instantiate $m))
        (core module $start (import "m" "_initialize" (func $f)) (start $f))
        (core instance (instantiate $start (with "m" (instance $i))))
        (func (export "add") (param "number" u32) (result u32) (canon lift (core func $i "add"))))"#;
    let end = end(start(reactor, &Start { export: Some("add"), args: &["5"], ..AS_IT_IS }));
    assert_eq!((end.code, end.stdout.as_str()), (Some(0), "105\n"), "{end:?}");
}

#[test]
fn an_export_of_a_module_takes_numbers_and_prints_what_it_returns() {
    let module = r#"(module
        (func (export "add") (param i32 i64) (result i64)
            (i64.add (i64.extend_i32_s (local.get 0)) (local.get 1)))
        (func (export "halves") (result f32 f64) (f32.const 0.5) (f64.const -0.5))
        (func (export "_start") unreachable))"#;
    let call = |export, args| end(start(module, &Start { export: Some(export), args, ..AS_IT_IS }));
    for (export, args, stdout) in [
        ("add", &["2", "3"][..], "5\n"),
        ("add", &["-2, 0x10"], "14\n"),
        ("halves", &["left", "to", "the guest"], "0.5\n-0.5\n"),
    ] {
        let end = call(export, args);
        assert_eq!((end.code, end.stdout.as_str()), (Some(0), stdout), "{export}: {end:?}");
    }
    let end = call("add", &["2", "three"]);
    assert_eq!(end.code, Some(2), "{end:?}");
    assert!(end.stderr.contains("argument 2, column 1: not a number of type i64"), "{end:?}");
    assert!(end.stderr.contains("the function is add(i32, i64) -> i64"), "{end:?}");
}

/// A component whose exports return what is no value of their type.
const LIARS: &str = r#"(component
    (type $thing' (resource (rep i32)))
    (type $future (future u8))
    (core func $new (canon future.new $future))
    (core func $drop (canon future.drop-readable $future))
    (core module $m
        (import "future" "new" (func $new (result i64)))
        (import "future" "drop" (func $drop (param i32)))
        (memory (export "memory") 1)
        ;; Text: bytes that are none, and a place beyond the memory.
        (data (i32.const 8) "\10\00\00\00\01\00\00\00\ff\ff\ff\ff\ff\ff\ff\7f")
        (data (i32.const 24) "\00\00\00\7f\01\00\00\00")
        (func (export "damaged") (result i32) (i32.const 8))
        (func (export "outside") (result i32) (i32.const 24))
        (func (export "far") (result i32) (i32.const 65535))
        (func (export "nothing") (result i32) (i32.const 77))
        (func (export "dropped") (result i32) (local $readable i32)
            (local.set $readable (i32.wrap_i64 (call $new)))
            (call $drop (local.get $readable))
            (local.get $readable)))
    (core instance $i (instantiate $m (with "future" (instance
        (export "new" (func $new)) (export "drop" (func $drop))))))
    (export $thing "thing" (type $thing'))
    (func (export "damaged") (result string)
        (canon lift (core func $i "damaged") (memory (core memory $i "memory"))))
    (func (export "outside") (result string)
        (canon lift (core func $i "outside") (memory (core memory $i "memory"))))
    (func (export "far") (result string)
        (canon lift (core func $i "far") (memory (core memory $i "memory"))))
    (func (export "no-case") (result (result)) (canon lift (core func $i "nothing")))
    (func (export "no-resource") (result (own $thing)) (canon lift (core func $i "nothing")))
    (func (export "no-future") (result $future) (canon lift (core func $i "dropped"))))"#;

#[test]
fn a_result_that_is_no_value_of_its_type_is_a_trap() {
    for export in ["damaged", "outside", "far", "no-case", "no-resource", "no-future"] {
        let end = end(start(LIARS, &Start { export: Some(export), ..AS_IT_IS }));
        assert_eq!(end.code, Some(134), "{export}: {end:?}");
        assert!(end.stderr.starts_with("error: wasm trap: "), "{export}: {end:?}");
    }
    for (interface, effect) in [(RUN_02, ""), (RUN_03, "async")] {
        let end = run(&command(interface, effect, "i32.const 7"));
        assert_eq!(end.code, Some(134), "{interface}: {end:?}");
        assert!(end.stderr.starts_with("error: wasm trap: "), "{interface}: {end:?}");
    }
}

#[test]
fn a_trap_fifty_calls_deep_is_told_with_all_of_them() {
    let end = run(r#"(module
        (func $deep (param i32)
            (if (i32.eqz (local.get 0)) (then unreachable))
            (call $deep (i32.sub (local.get 0) (i32.const 1))))
        (func $first (export "_start") (call $deep (i32.const 48))))"#);
    assert_eq!(end.code, Some(134), "{end:?}");
    assert_eq!(end.stderr.matches("!deep").count(), 49, "{end:?}");
    assert!(end.stderr.contains("!first"), "{end:?}");
}

/// A component whose `run` calls `$run` of a core module, which may exit with a code or write to stdout.
pub fn command(interface: &str, effect: &str, body: &str) -> String {
    format!(
        r#"(component
            (import "wasi:cli/exit@0.2.6" (instance $exit
                (export "exit-with-code" (func (param "status-code" u8)))))
            (import "wasi:io/error@0.2.0" (instance $errors
                (export "error" (type (sub resource)))))
            (alias export $errors "error" (type $io-error))
            (import "wasi:io/streams@0.2.0" (instance $streams
                (export "output-stream" (type $output (sub resource)))
                (alias outer 1 $io-error (type $error))
                (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
                (export "stream-error" (type $stream-error (eq $failure)))
                (export "[method]output-stream.check-write" (func
                    (param "self" (borrow $output)) (result (result u64 (error $stream-error)))))
                (export "[method]output-stream.write" (func
                    (param "self" (borrow $output)) (param "contents" (list u8))
                    (result (result (error $stream-error)))))))
            (alias export $streams "output-stream" (type $stream))
            (import "wasi:cli/stdout@0.2.0" (instance $stdout
                (alias outer 1 $stream (type $s))
                (export "output-stream" (type $o (eq $s)))
                (export "get-stdout" (func (result (own $o))))))
            (core module $memory
                (memory (export "memory") 1)
                (data (i32.const 16) "not flushed"))
            (core instance $memory (instantiate $memory))
            (core func $exit (canon lower (func $exit "exit-with-code")))
            (core func $stdout (canon lower (func $stdout "get-stdout")))
            (core func $check (canon lower (func $streams "[method]output-stream.check-write")
                (memory (core memory $memory "memory"))))
            (core func $write (canon lower (func $streams "[method]output-stream.write")
                (memory (core memory $memory "memory"))))
            (core module $app
                (import "host" "exit" (func $exit (param i32)))
                (import "host" "stdout" (func $stdout (result i32)))
                (import "host" "check" (func $check (param i32 i32)))
                (import "host" "write" (func $write (param i32 i32 i32 i32)))
                (func $entry (export "run") (result i32) (local $stream i32) {body}))
            (core instance $app (instantiate $app (with "host" (instance
                (export "exit" (func $exit)) (export "stdout" (func $stdout))
                (export "check" (func $check)) (export "write" (func $write))))))
            (func $run {effect} (result (result)) (canon lift (core func $app "run")))
            (instance $command (export "run" (func $run)))
            (export "{interface}" (instance $command)))"#
    )
}

pub const RUN_02: &str = "wasi:cli/run@0.2.6";
pub const RUN_03: &str = "wasi:cli/run@0.3.0";

#[test]
fn a_command_ends_with_0_or_1_as_its_run_returns() {
    for (interface, effect) in [(RUN_02, ""), (RUN_03, "async")] {
        for code in [0, 1] {
            let end = run(&command(interface, effect, &format!("i32.const {code}")));
            assert_eq!((end.code, end.stderr.as_str()), (Some(code), ""), "{interface}: {end:?}");
        }
    }
}

#[test]
fn a_command_may_exit_with_a_code_of_its_own() {
    for (interface, effect) in [(RUN_02, ""), (RUN_03, "async")] {
        let end = run(&command(interface, effect, "i32.const 200 call $exit unreachable"));
        assert_eq!((end.code, end.stderr.as_str()), (Some(200), ""), "{interface}: {end:?}");
    }
}

#[test]
fn a_command_that_traps_is_told_once() {
    for (interface, effect) in [(RUN_02, ""), (RUN_03, "async")] {
        let end = run(&command(interface, effect, "unreachable"));
        assert_eq!(end.code, Some(134), "{interface}: {end:?}");
        assert_eq!(end.stderr.matches("`unreachable`").count(), 1, "{interface}: {end:?}");
        assert!(end.stderr.contains("entry"), "{interface}: {end:?}");
    }
}

#[test]
fn what_a_guest_wrote_but_did_not_flush_is_not_lost_at_its_end() {
    let write = "
        (local.set $stream (call $stdout))
        (call $check (local.get $stream) (i32.const 64))
        (call $write (local.get $stream) (i32.const 16) (i32.const 11) (i32.const 64))";
    for rest in ["i32.const 0", "i32.const 0 call $exit unreachable", "unreachable"] {
        let end = run(&command(RUN_02, "", &format!("{write} {rest}")));
        assert!(end.stdout.ends_with("not flushed"), "{rest}: {end:?}");
    }
}

#[test]
fn a_command_in_a_loop_that_never_ends_is_ended_by_a_signal() {
    let spinning = r#"(module
        (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\08\00\00\00\08\00\00\00spinning")
        (func (export "_start")
            (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 64)))
            (loop $forever br $forever)))"#;
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130)] {
        let mut child = start(spinning, &AS_IT_IS);
        let mut said = [0; "spinning".len()];
        child.stderr.as_mut().expect("stderr").read_exact(&mut said).expect("it runs");
        send(&child, signal);
        assert_eq!(end(child).code, Some(code), "{signal}");
    }
}
