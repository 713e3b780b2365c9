//! `wasm-image` as CI runs it: the built program, against a real registry (Debian's `docker-registry`) on loopback.
//!
//! [`support`] has the program and a folder for it, [`registry`] a registry that ends with its test, [`front`] a server
//! that stands before it and misbehaves: what no registry does on request (429, cut lines, wrong content, web pages) it
//! does.
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
mod referrers;
mod registry;
mod strange_registry;
mod support;
mod tls;
mod warm;
