//! The isolation of a process, fact by fact: generates OCI specs, and records what the processes that are made from
//! them have.
//!
//! Read in this order: [`specs`] generates specs from a seed, `volumes` adds mounts, `kernel` adds limits and
//! filters, and `places` has the directories and namespaces that they name. [`made`] makes a container of a spec,
//! under a shim or by runc itself. [`facts`] records what its process has, with `mounts`, `files` and `keyring`.
//! [`bounds`] finds where a guest's process has more than a program's.

pub mod bounds;
pub mod facts;
mod files;
mod kernel;
mod keyring;
pub mod made;
pub mod mounts;
pub mod places;
pub mod specs;
mod volumes;
