//! An image's manifest and index, as a registry sends them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| image::fuzzing::manifest(bytes));
