//! The Task service: one file per verb of containerd's API (containerd, api/runtime/task/v3/shim.proto).
//!
//! Read [`crate::pod`] first, which is the state that all verbs share, and then [`service`], which maps calls to verbs.
//! Create is the longest verb: `create` has the order of its steps, `config` reads the bundle's configuration,
//! `workload` finds the workload, and `compile` compiles a guest. Verbs know neither ttrpc's codes, which are in
//! [`crate::errors`], nor the transitions between states, which are in [`crate::lifecycle`].

mod compile;
mod config;
mod create;
mod delete;
mod exec;
mod kill;
mod pause;
mod query;
mod service;
mod start;
mod update;
mod workload;

pub use service::Service;
