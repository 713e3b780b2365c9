//! Parses a request to the zygote. A parsed request must be the same after it is written and parsed again.
#![no_main]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a target reports"
)]

use libfuzzer_sys::fuzz_target;
use sandbox::Request;

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = serde_json::from_slice::<Request>(bytes) else { return };
    let text = serde_json::to_string(&request).expect("encodes");
    let again = serde_json::from_str::<Request>(&text).expect("is understood again");
    assert_eq!(text, serde_json::to_string(&again).expect("encodes"));
});
