//! `wasm-image` as CI runs it: the built program, against a real registry (Debian's `docker-registry`) on loopback.
//!
//! [`support`] has the program and a directory for it. [`registry`] starts a registry that ends with its test.
//! [`front`] is a server in front of it that misbehaves in ways that no registry does on request (429, cut connections,
//! wrong content, web pages).
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod bad_registry;
mod bad_upload;
mod build;
mod compose;
mod compressed;
mod convert;
mod credentials;
mod front;
mod inspect;
mod inspect_images;
mod interrupt;
mod missing;
mod moving;
mod policy;
mod referrers;
mod registry;
mod strange_registry;
mod support;
mod tls;
mod warm;
