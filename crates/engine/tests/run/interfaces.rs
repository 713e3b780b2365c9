//! Guests with the interfaces that a component gets because it imports them.

use crate::{AS_IT_IS, Start, end, run, start};

/// Logs once, and traps.
const LOGGING: &str = r#"(component
    (import "wasi:logging/logging" (instance $logging
        (type $level' (enum "trace" "debug" "info" "warn" "error" "critical"))
        (export "level" (type $level (eq $level')))
        (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
    (core module $data (memory (export "memory") 1) (data (i32.const 0) "orderssold\nout"))
    (core instance $data (instantiate $data))
    (alias core export $data "memory" (core memory $memory))
    (core func $log (canon lower (func $logging "log") (memory $memory)))
    (core module $m
        (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
        (func (export "run") (result i32)
            (call $log (i32.const 3) (i32.const 0) (i32.const 6) (i32.const 6) (i32.const 8))
            unreachable))
    (core instance $i (instantiate $m (with "host" (instance (export "log" (func $log))))))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $command (export "run" (func $run)))
    (export "wasi:cli/run@0.2.3" (instance $command)))"#;

#[test]
fn a_message_is_a_line_on_stderr_and_the_call_is_known_when_the_guest_fails() {
    let end = run(LOGGING);
    assert_eq!((end.code, end.stdout.as_str()), (Some(134), ""), "{end:?}");
    let line = r#"{"level":"warn","context":"orders","message":"sold\nout"}"#;
    assert_eq!(end.stderr.lines().next(), Some(line), "{end:?}");
    assert!(end.stderr.contains("last host call: wasi:logging log\n"), "{end:?}");
}

#[test]
fn the_last_messages_are_not_lost_if_they_are_beyond_the_rate() {
    let call = "(call $log (i32.const 3) (i32.const 0) (i32.const 6) (i32.const 6) (i32.const 8))";
    let last = call.replace("(i32.const 6) (i32.const 8)", "(i32.const 0) (i32.const 6)");
    let guest =
        LOGGING.replace(call, &[call, call, &last].concat()).replace("unreachable", "i32.const 1");
    let end = end(start(&guest, &Start { annotations: &[("log-rate", "1")], ..AS_IT_IS }));
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.stderr.contains("warning: 2 lines were dropped"), "{end:?}");
    let begun = end.stderr.find("the last lines on stderr were:\n").expect("a report");
    let line = r#"{"level":"warn","context":"orders","message":"orders"}"#;
    assert!(end.stderr[begun..].contains(line), "{end:?}");
}

/// Sets values of 1 MiB, each with another key, until it is refused; `count` is how many there were.
const FILLING: &str = r#"(component
    (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
        (export "bucket" (type $bucket (sub resource)))
        (type $error' (variant (case "no-such-store") (case "access-denied") (case "other" string)))
        (export "error" (type $error (eq $error')))
        (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))
        (export "[method]bucket.set" (func (param "self" (borrow $bucket)) (param "key" string)
            (param "value" (list u8)) (result (result (error $error)))))))
    (core module $data
        (memory (export "memory") 20)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
    (core instance $data (instantiate $data))
    (alias core export $data "memory" (core memory $memory))
    (alias core export $data "realloc" (core func $realloc))
    (core func $open (canon lower (func $store "open") (memory $memory) (realloc $realloc)))
    (core func $set (canon lower (func $store "[method]bucket.set") (memory $memory) (realloc $realloc)))
    (core module $m
        (import "data" "memory" (memory 1))
        (import "host" "open" (func $open (param i32 i32 i32)))
        (import "host" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
        (func (export "count") (result i32) (local $count i32)
            (call $open (i32.const 0) (i32.const 0) (i32.const 16))
            (loop $more
                (i32.store8 (i32.const 0) (i32.add (i32.const 65) (local.get $count)))
                (call $set (i32.load (i32.const 20)) (i32.const 0) (i32.const 1)
                    (i32.const 65536) (i32.const 1048576) (i32.const 32))
                (if (i32.load8_u (i32.const 32)) (then (return (local.get $count))))
                (local.set $count (i32.add (local.get $count) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $count) (i32.const 100))))
            (local.get $count)))
    (core instance $i (instantiate $m
        (with "data" (instance $data))
        (with "host" (instance (export "open" (func $open)) (export "set" (func $set))))))
    (func (export "count") (result u32) (canon lift (core func $i "count"))))"#;

#[test]
fn a_store_in_memory_has_its_own_bound_and_that_of_the_containers_memory() {
    let count = |memory| end(start(FILLING, &Start { export: Some("count"), memory, ..AS_IT_IS }));
    let without = count(None);
    assert_eq!(without.stdout.trim(), "15", "{without:?}");
    assert!(without.stderr.contains("the store is full: it may have 16 MiB"), "{without:?}");
    let within = count(Some(16 << 20));
    assert_eq!(within.stdout.trim(), "7", "{within:?}");
    assert!(within.stderr.contains("resources.limits.memory"), "{within:?}");
}

/// Sets three values of 1 MiB, and asks for one of them as often as `get` is called with: 0 if that is refused.
const READING: &str = r#"(component
    (import "wasi:keyvalue/store@0.2.0-draft" (instance $store
        (export "bucket" (type $bucket (sub resource)))
        (type $error' (variant (case "no-such-store") (case "access-denied") (case "other" string)))
        (export "error" (type $error (eq $error')))
        (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))
        (export "[method]bucket.set" (func (param "self" (borrow $bucket)) (param "key" string)
            (param "value" (list u8)) (result (result (error $error)))))))
    (alias export $store "bucket" (type $bucket))
    (alias export $store "error" (type $error))
    (import "wasi:keyvalue/batch@0.2.0-draft" (instance $batch
        (alias outer 1 $bucket (type $bucket'))
        (export "bucket" (type $bucket (eq $bucket')))
        (alias outer 1 $error (type $error'))
        (export "error" (type $error (eq $error')))
        (export "get-many" (func (param "bucket" (borrow $bucket)) (param "keys" (list string))
            (result (result (list (option (tuple string (list u8)))) (error $error)))))))
    (core module $data
        (memory (export "memory") 72)
        (global $free (mut i32) (i32.const 1179648))
        (func (export "realloc") (param i32 i32 i32 i32) (result i32)
            (global.set $free (i32.add (i32.and (global.get $free) (i32.const -8)) (i32.const 8)))
            (global.get $free)
            (global.set $free (i32.add (global.get $free) (local.get 3)))))
    (core instance $data (instantiate $data))
    (alias core export $data "memory" (core memory $memory))
    (alias core export $data "realloc" (core func $realloc))
    (core func $open (canon lower (func $store "open") (memory $memory) (realloc $realloc)))
    (core func $set (canon lower (func $store "[method]bucket.set") (memory $memory) (realloc $realloc)))
    (core func $get (canon lower (func $batch "get-many") (memory $memory) (realloc $realloc)))
    (core module $m
        (import "data" "memory" (memory 1))
        (import "host" "open" (func $open (param i32 i32 i32)))
        (import "host" "set" (func $set (param i32 i32 i32 i32 i32 i32)))
        (import "host" "get" (func $get (param i32 i32 i32 i32)))
        (func $fill (param $key i32)
            (i32.store8 (i32.const 0) (local.get $key))
            (call $set (i32.load (i32.const 20)) (i32.const 0) (i32.const 1)
                (i32.const 65536) (i32.const 1048576) (i32.const 32))
            (if (i32.load8_u (i32.const 32)) (then unreachable)))
        (func (export "get") (param $times i32) (result i32) (local $next i32)
            (call $open (i32.const 0) (i32.const 0) (i32.const 16))
            (call $fill (i32.const 65))
            (call $fill (i32.const 66))
            (call $fill (i32.const 67))
            (loop $more
                (i32.store offset=1028 (i32.shl (local.get $next) (i32.const 3)) (i32.const 1))
                (local.set $next (i32.add (local.get $next) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $next) (local.get $times))))
            (call $get (i32.load (i32.const 20)) (i32.const 1024) (local.get $times) (i32.const 64))
            (if (result i32) (i32.load8_u (i32.const 64)) (then (i32.const 0))
                (else (i32.load (i32.const 72))))))
    (core instance $i (instantiate $m
        (with "data" (instance $data))
        (with "host" (instance
            (export "open" (func $open)) (export "set" (func $set)) (export "get" (func $get))))))
    (func (export "get") (param "times" u32) (result u32) (canon lift (core func $i "get"))))"#;

#[test]
fn what_one_call_returns_is_bounded_and_counts_in_the_containers_memory() {
    let get = |times, memory| {
        let how = Start { export: Some("get"), args: &[times], memory, ..AS_IT_IS };
        end(start(READING, &how))
    };
    let most = get("3", None);
    assert_eq!((most.stdout.trim(), most.stderr.as_str()), ("3", ""), "{most:?}");
    let too_many = get("4", None);
    assert_eq!(too_many.stdout.trim(), "0", "{too_many:?}");
    assert!(too_many.stderr.contains("more than 4 MiB together"), "{too_many:?}");
    // Of 11 MiB the guests have half, of which the store takes three.
    let one = get("1", Some(11 << 20));
    assert_eq!(one.stdout.trim(), "1", "{one:?}");
    let within = get("3", Some(11 << 20));
    assert_eq!(within.stdout.trim(), "0", "{within:?}");
    assert!(within.stderr.contains("no room for so many values"), "{within:?}");
}

/// Begins a hundred handshakes with a name that is none, and returns the error of the last.
const SECURING: &str = r#"(component
    (import "wasi:io/error@0.2.3" (instance $errors
        (export "error" (type $error (sub resource)))
        (export "[method]error.to-debug-string" (func (param "self" (borrow $error)) (result string)))))
    (alias export $errors "error" (type $error))
    (import "wasi:io/poll@0.2.3" (instance $poll
        (export "pollable" (type $pollable (sub resource)))
        (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
    (alias export $poll "pollable" (type $pollable))
    (import "wasi:io/streams@0.2.3" (instance $streams
        (export "input-stream" (type (sub resource)))
        (export "output-stream" (type (sub resource)))))
    (alias export $streams "input-stream" (type $input))
    (alias export $streams "output-stream" (type $output))
    (import "wasi:cli/stdin@0.2.3" (instance $stdin
        (alias outer 1 $input (type $input'))
        (export "input-stream" (type $input (eq $input')))
        (export "get-stdin" (func (result (own $input))))))
    (import "wasi:cli/stdout@0.2.3" (instance $stdout
        (alias outer 1 $output (type $output'))
        (export "output-stream" (type $output (eq $output')))
        (export "get-stdout" (func (result (own $output))))))
    (import "wasi:tls/types@0.2.0-draft" (instance $tls
        (alias outer 1 $input (type $input'))
        (export "input-stream" (type $input (eq $input')))
        (alias outer 1 $output (type $output'))
        (export "output-stream" (type $output (eq $output')))
        (alias outer 1 $pollable (type $pollable'))
        (export "pollable" (type $pollable (eq $pollable')))
        (alias outer 1 $error (type $error'))
        (export "io-error" (type $error (eq $error')))
        (export "client-connection" (type $connection (sub resource)))
        (export "future-client-streams" (type $future (sub resource)))
        (export "client-handshake" (type $handshake (sub resource)))
        (export "[constructor]client-handshake" (func (param "server-name" string)
            (param "input" (own $input)) (param "output" (own $output)) (result (own $handshake))))
        (export "[static]client-handshake.finish" (func (param "this" (own $handshake)) (result (own $future))))
        (export "[method]future-client-streams.subscribe" (func (param "self" (borrow $future))
            (result (own $pollable))))
        (export "[method]future-client-streams.get" (func (param "self" (borrow $future))
            (result (option (result (result (tuple (own $connection) (own $input) (own $output))
                (error (own $error))))))))))
    (core module $data
        (memory (export "memory") 1)
        (data (i32.const 0) "no name")
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
    (core instance $data (instantiate $data))
    (alias core export $data "memory" (core memory $memory))
    (alias core export $data "realloc" (core func $realloc))
    (core func $stdin (canon lower (func $stdin "get-stdin")))
    (core func $stdout (canon lower (func $stdout "get-stdout")))
    (core func $new (canon lower (func $tls "[constructor]client-handshake") (memory $memory)))
    (core func $finish (canon lower (func $tls "[static]client-handshake.finish")))
    (core func $subscribe (canon lower (func $tls "[method]future-client-streams.subscribe")))
    (core func $get (canon lower (func $tls "[method]future-client-streams.get") (memory $memory)))
    (core func $block (canon lower (func $poll "[method]pollable.block")))
    (core func $text (canon lower (func $errors "[method]error.to-debug-string")
        (memory $memory) (realloc $realloc)))
    (core module $m
        (import "data" "memory" (memory 1))
        (import "host" "stdin" (func $stdin (result i32)))
        (import "host" "stdout" (func $stdout (result i32)))
        (import "host" "new" (func $new (param i32 i32 i32 i32) (result i32)))
        (import "host" "finish" (func $finish (param i32) (result i32)))
        (import "host" "subscribe" (func $subscribe (param i32) (result i32)))
        (import "host" "get" (func $get (param i32 i32)))
        (import "host" "block" (func $block (param i32)))
        (import "host" "text" (func $text (param i32 i32)))
        (func (export "run") (result i32) (local $count i32) (local $last i32)
            (loop $more
                (local.set $last (call $finish
                    (call $new (i32.const 0) (i32.const 7) (call $stdin) (call $stdout))))
                (local.set $count (i32.add (local.get $count) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $count) (i32.const 100))))
            ;; begun
            (call $block (call $subscribe (local.get $last)))
            (call $get (local.get $last) (i32.const 32))
            ;; It is there, was not taken before, and is an error.
            (if (i32.ne (i32.load8_u (i32.const 32)) (i32.const 1)) (then unreachable))
            (if (i32.load8_u (i32.const 36)) (then unreachable))
            (if (i32.ne (i32.load8_u (i32.const 40)) (i32.const 1)) (then unreachable))
            (call $text (i32.load (i32.const 44)) (i32.const 16))
            (i32.const 16)))
    (core instance $i (instantiate $m
        (with "data" (instance $data))
        (with "host" (instance
            (export "stdin" (func $stdin)) (export "stdout" (func $stdout))
            (export "new" (func $new)) (export "finish" (func $finish))
            (export "subscribe" (func $subscribe)) (export "get" (func $get))
            (export "block" (func $block)) (export "text" (func $text))))))
    (func (export "last") (result string)
        (canon lift (core func $i "run") (memory $memory))))"#;

#[test]
fn connections_over_tls_count_in_the_containers_memory() {
    let last = |memory| end(start(SECURING, &Start { export: Some("last"), memory, ..AS_IT_IS }));
    let without = last(None);
    assert!(without.stdout.contains("invalid dns name"), "{without:?}");
    let within = last(Some(16 << 20));
    assert!(within.stdout.contains("no room for another connection"), "{within:?}");
}

#[test]
fn a_call_of_tls_is_known_when_the_guest_fails() {
    let failing = SECURING.replace(";; begun", "unreachable");
    let end = end(start(&failing, &Start { export: Some("last"), ..AS_IT_IS }));
    let last = "last host call: wasi:tls/types [static]client-handshake.finish\n";
    assert!(end.stderr.contains(last), "{end:?}");
}
