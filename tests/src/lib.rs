//! A harness that starts real containerd, talks to it as kubelet and `ctr` do, and sees what is left.
//!
//! To read in this order:
//! - [`containerd`]: which versions are at hand; [`config`]: what a private one is told.
//! - [`node`]: one private containerd with its images and network, from start to "nothing is left"; [`disk`]: one of
//!   its own that can be filled.
//! - [`spec`]: Pods and containers as a test writes them; [`running`]: as they live;
//!   [`cri`]: the client both go through; [`logs`] and [`http`]: what comes out of them.
//! - [`ctr`]: containerd's own command-line client; [`events`]: what containerd tells;
//!   [`kubelet`]: volumes as kubelet lays them out.
//! - [`shim`]: the shim by itself, without any containerd; [`isolation`]: what a process has of a spec that is made up.
//! - [`cluster`], [`namespace`]: Kubernetes on such a node; [`background`]: a kubectl that serves;
//!   [`registry`]: where images are pulled from; [`layout`]: images of any form; [`certificates`]: for servers that speak TLS.
//! - [`installer`]: `node-installer` on such a node.
//! - [`interrupt`]: what ctrl-C does; [`steps`]: a process killed at a chosen one; [`cgroups`]: made by a test itself; [`limits`]: what one allows; [`processes`], [`traces`]: what a Pod
//!   consists of on the machine, and what it has left there.
//!
//! The stories themselves are in `tests/stories`. Nothing here knows how the shim works inside.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

pub mod background;
pub mod certificates;
pub mod cgroups;
pub mod cluster;
pub mod command;
pub mod config;
pub mod containerd;
pub mod cri;
pub mod ctr;
pub mod disk;
pub mod events;
pub mod http;
pub mod installer;
pub mod interrupt;
pub mod isolation;
pub mod kubelet;
pub mod layout;
pub mod limits;
pub mod logs;
pub mod namespace;
pub mod network;
pub mod node;
pub mod processes;
pub mod registry;
pub mod running;
pub mod shim;
pub mod spec;
pub mod steps;
mod stop;
pub mod traces;
pub mod wait;

pub use node::{Node, on_each_containerd};
pub use running::{RunningContainer, RunningPod};
pub use spec::{Container, Pod};
