//! Parses arguments of an export in WAVE notation. A parsed value must be the same after it is printed and parsed
//! again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| engine::fuzzing::wave(text));
