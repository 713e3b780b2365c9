//! Composes two component layers. The result must be a valid component, or an error on one line.
#![no_main]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a target reports"
)]

use compose::Layer;
use libfuzzer_sys::fuzz_target;
use wasmparser::{Validator, WasmFeatures};

/// Bytes between the two layers.
const SEPARATOR: &[u8] = b"\0layer\0";

fuzz_target!(|bytes: &[u8]| {
    let at = bytes.windows(SEPARATOR.len()).position(|window| window == SEPARATOR);
    let (first, second) = match at {
        Some(at) => (&bytes[..at], &bytes[at + SEPARATOR.len()..]),
        None => bytes.split_at(bytes.len() / 2),
    };
    let layers = [Layer { name: "first", wasm: first }, Layer { name: "second", wasm: second }];
    match compose::compose(&layers, &provided::interfaces()) {
        Ok(composed) => {
            let validated =
                Validator::new_with_features(WasmFeatures::all()).validate_all(&composed.wasm);
            validated.expect("the composition of valid components is valid");
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});
