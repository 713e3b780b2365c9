//! A file's first bytes: what it is, under a name that says wasm, under one that does not, and as a wasm layer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| image::fuzzing::header(bytes));
