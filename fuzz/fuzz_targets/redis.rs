//! Replies of a server to a key-value store in Redis. Whatever a server replies, the next call works.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| engine::fuzzing::redis(bytes));
