//! Arguments of an export in WAVE notation: a value that is understood is printed as text that is understood as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| engine::fuzzing::wave(text));
