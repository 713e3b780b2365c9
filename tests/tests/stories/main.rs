//! Stories about Pods and containers on real containerd, one file each subject.
//!
//! Every story runs on a fresh node of each containerd that is installed, and at its end nothing of the
//! node may be left on the machine. The stories in `linux` need no guest, and can run with runc as well:
//! `WASMTIME_SHIM_TEST_HANDLER=runc cargo test --release -p tests linux::`.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod address_space;
mod annotations;
mod bad_input;
mod bounds;
mod breaking_off;
mod caching;
mod clients;
mod compiling;
mod composing;
#[cfg(target_arch = "x86_64")]
mod confinement;
mod ctr;
mod deleting;
mod events;
mod exec;
mod gateway;
mod grants;
mod guest;
mod guest_files;
mod hostile;
mod http;
mod http2;
mod identity;
mod inspected;
mod installing;
mod installing_killed;
mod interfaces;
mod isolation;
mod k3s;
mod languages;
mod leftovers;
mod link;
mod linux;
mod made_up;
mod observing;
mod outgoing;
mod packing;
mod pausing;
mod pod;
mod polyglot;
mod power;
mod preinit;
mod programs;
mod registry;
mod resources;
mod shim;
mod shipped;
mod spans;
mod stopping;
mod survival;
mod systemd;
mod unified;
mod upgrading;
mod warming;
