//! A harness that starts real containerds, uses them as kubelet and `ctr` do, and checks what is left.
//!
//! Read in this order:
//! - [`containerd`]: the installed versions; [`config`]: the configuration of a private one.
//! - [`node`]: one private containerd with its images and network, from its start until nothing is left; [`disk`]: a
//!   disk for it that can be filled; [`power`]: one whose power can be cut.
//! - [`spec`]: Pods and containers as a test writes them; [`running`]: Pods and containers that run; [`cri`]: the
//!   client for both; [`logs`] and [`http`]: their output.
//! - [`ctr`]: containerd's own command-line client; [`events`]: containerd's events; [`figure`]: what a test measures;
//!   [`kubelet`]: volumes as kubelet lays them out.
//! - [`shim`]: the shim without any containerd; [`isolation`]: generated OCI specs, and what a process has of them.
//! - [`cluster`], [`namespace`]: Kubernetes on such a node; [`background`]: a kubectl that serves; [`registry`]: a
//!   registry for images; [`layout`]: images of any form; [`certificates`]: certificates for servers with TLS; [`redis`]: a
//!   Redis in a Pod's network; [`dns`]: a DNS server there.
//! - [`installer`]: `node-installer` on such a node.
//! - [`interrupt`]: the clean-up on ctrl-C; [`steps`]: killing a process at a chosen step; `captive`: a process that does
//!   the test's system calls; [`cgroups`]: cgroups that a test makes; [`limits`]: limits of a cgroup; [`processes`],
//!   [`traces`]: the processes of a Pod, and what it leaves on the machine.
//!
//! The stories themselves are in `tests/stories`. The harness knows nothing of how the shim works inside.
#![forbid(unsafe_code)]
#![allow(clippy::expect_used, reason = "a panic is how a test fails")]

pub mod background;
#[cfg(target_arch = "x86_64")]
pub mod captive;
pub mod certificates;
pub mod cgroups;
pub mod cluster;
pub mod command;
pub mod config;
pub mod containerd;
pub mod cri;
pub mod ctr;
pub mod disk;
pub mod dns;
pub mod events;
pub mod figure;
pub mod http;
pub mod installer;
pub mod interrupt;
pub mod isolation;
pub mod kubelet;
pub mod large;
pub mod layout;
pub mod limits;
pub mod logs;
pub mod namespace;
pub mod network;
pub mod node;
pub mod power;
pub mod processes;
pub mod redis;
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
