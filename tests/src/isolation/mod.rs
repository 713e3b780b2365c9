//! What isolates a process: OCI specs that are made up, and what a process has that was made of one, fact by fact.
//!
//! To read in this order: [`specs`] makes up specs from a seed, [`volumes`] adds what is mounted, [`kernel`] limits and
//! filters, and [`places`] are the directories and namespaces that they name. [`made`] makes a container of a spec, under a
//! shim or by runc itself. [`facts`] takes down what its process has, with [`mounts`], [`files`] and [`keyring`]; [`bounds`]
//! says where a guest's process has more than a program's.

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
