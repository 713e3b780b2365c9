//! The Task service: one file per verb of containerd's API (containerd, api/runtime/task/v3/shim.proto).
//!
//! Read [`crate::pod`] first: what all verbs share; and [`service`]: the table from call to verb. Create, the longest, is
//! split: `create` orders the steps, `config` reads the bundle's, `workload` finds out what is to run, `compile` has a
//! guest compiled. No verb
//! knows about ttrpc's codes ([`crate::errors`] does) nor about what may follow which state ([`crate::lifecycle`]
//! does).

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
