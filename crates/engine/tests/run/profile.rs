//! Profiles of guests that run.

use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::Duration;

use engine::ask_for_profile;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::command::{RUN_02, command};
use crate::{AS_IT_IS, Start, end, send, start};

const LENGTH: Duration = Duration::from_secs(1);

/// Profiles a guest that never ends by itself, and returns the texts of the profile and its number of samples.
fn profile(guest: &str) -> (Vec<String>, usize) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("socket");
    let child = start(guest, &Start { profiles: Some(&path), ..AS_IT_IS });
    let mut tries = 0..1000;
    let stream = loop {
        match UnixStream::connect(&path) {
            Ok(stream) => break stream,
            Err(error) => assert!(tries.next().is_some(), "{error}"),
        }
        sleep(Duration::from_millis(10));
    };
    let mut profile = Vec::new();
    let asked = ask_for_profile(stream, LENGTH, &mut profile);
    send(&child, Signal::SIGTERM);
    let end = end(child);
    asked.unwrap_or_else(|error| panic!("{error}: {end:?}"));
    assert_eq!(end.code, Some(143), "{end:?}");
    let profile: Value = serde_json::from_slice(&profile).expect("JSON");
    let thread = &profile["threads"][0];
    let texts = profile["shared"]["stringArray"].as_array().or(thread["stringArray"].as_array());
    let texts = texts.expect("texts").iter().filter_map(Value::as_str).map(str::to_owned).collect();
    (texts, thread["samples"]["length"].as_u64().expect("a number") as usize)
}

#[test]
fn a_profile_has_the_functions_of_a_module_that_computes() {
    let (texts, samples) = profile(
        r#"(module
            (global $count (mut i64) (i64.const 0))
            (func $add (global.set $count (i64.add (global.get $count) (i64.const 1))))
            (func $busy (loop $again (call $add) (br $again)))
            (func $first (export "_start") (call $busy)))"#,
    );
    assert!(samples > 10, "{samples} samples: {texts:?}");
    for name in ["first", "busy"] {
        assert!(texts.iter().any(|text| text == name), "no {name} in {texts:?}");
    }
}

#[test]
fn a_profile_has_the_functions_of_a_component_that_computes() {
    let (texts, samples) = profile(&command(RUN_02, "", "(loop $again (br $again)) i32.const 0"));
    assert!(samples > 10, "{samples} samples: {texts:?}");
    assert!(texts.iter().any(|text| text == "entry"), "{texts:?}");
}

#[test]
fn a_guest_that_waits_is_in_no_sample() {
    let waiting = r#"(module
        (import "wasi_snapshot_preview1" "poll_oneoff"
            (func $poll (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        ;; One subscription: the monotonic clock, in 2^40 ns.
        (data (i32.const 16) "\01")
        (data (i32.const 29) "\01")
        (func $waits (export "_start")
            (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;
    let (texts, _) = profile(waiting);
    assert!(!texts.iter().any(|text| text == "waits"), "{texts:?}");
}
