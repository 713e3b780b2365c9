//! Failure artifacts: termination messages and core dumps.

use std::fs;

use crate::command::{RUN_02, command};
use crate::{AS_IT_IS, End, Start, end, start};

/// Says `so it ends` on stderr; then ends as `end` has it.
fn says_and(end: &str) -> String {
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 0) "\08\00\00\00\0b\00\00\00so it ends\n")
            (func $app (export "_start")
                (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 64)))
                {end}))"#
    )
}

/// How it ends, the termination message, and the core dump.
fn artifacts(guest: &str, memory: Option<u64>) -> (End, String, Option<Vec<u8>>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let how = Start { artifacts: Some(directory.path()), memory, ..AS_IT_IS };
    let end = end(start(guest, &how));
    let message = fs::read_to_string(directory.path().join("message")).expect("is there");
    (end, message, fs::read(directory.path().join("core.app")).ok())
}

#[test]
fn a_trap_leaves_what_was_said_its_cause_and_a_core_dump() {
    let (end, message, dump) = artifacts(&says_and("unreachable"), None);
    assert_eq!(end.code, Some(134), "{end:?}");
    for part in ["so it ends\n", "core dump: ", "error: wasm trap: wasm `unreachable`", "!app"] {
        assert!(message.contains(part) && end.stderr.contains(part), "no {part} in {message}");
    }
    assert!(message.contains("last host call: wasi_snapshot_preview1 fd_write\n"), "{message}");
    let dump = dump.expect("a core dump");
    // The format of WebAssembly's tool conventions: a module with these sections, and the memory as its data.
    assert!(dump.starts_with(b"\0asm"), "{dump:?}");
    for part in [&b"corestack"[..], b"coremodules", b"so it ends"] {
        assert!(dump.windows(part.len()).any(|bytes| bytes == part), "{part:?} is missing");
    }
}

#[test]
fn the_last_host_call_of_a_component_is_told_by_its_interface() {
    let (_, message, dump) =
        artifacts(&command(RUN_02, "", "(drop (call $stdout)) unreachable"), None);
    assert!(message.contains("last host call: wasi:cli/stdout get-stdout\n"), "{message}");
    assert!(dump.is_some(), "{message}");
}

#[test]
fn an_exit_leaves_what_was_said_if_it_is_a_failure() {
    let (end, message, dump) = artifacts(&says_and("(call $exit (i32.const 3))"), None);
    assert_eq!((end.code, message.as_str(), dump), (Some(3), "so it ends\n", None));
    let (end, message, dump) = artifacts(&says_and("(call $exit (i32.const 0))"), None);
    assert_eq!((end.code, message.as_str(), dump), (Some(0), "", None));
}

#[test]
fn a_link_does_not_lead_a_core_dump_elsewhere_if_only_some_directories_are_granted() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (own, link) = (directory.path().join("own"), directory.path().join("link"));
    fs::create_dir(&own).expect("made");
    std::os::unix::fs::symlink(&own, &link).expect("linked");
    for (artifacts, without_files, is_left) in
        [(&link, true, false), (&link, false, true), (&own, true, true)]
    {
        let how = Start { artifacts: Some(artifacts), without_files, ..AS_IT_IS };
        let end = end(start(&says_and("unreachable"), &how));
        let is_there = fs::remove_file(own.join("core.app")).is_ok();
        assert_eq!(is_there, is_left, "{artifacts:?} {end:?}");
        assert_eq!(end.stderr.contains("a link leads to it"), !is_left, "{end:?}");
        assert!(!own.join("core.app.unfinished").exists());
    }
}

#[test]
fn a_core_dump_for_which_there_is_no_memory_is_not_begun() {
    let (end, message, dump) = artifacts(&says_and("unreachable"), Some(200 << 10));
    assert_eq!((end.code, dump), (Some(134), None), "{end:?}");
    assert!(message.contains("no core dump") && message.contains("65536 bytes"), "{message}");
}
