//! The limits on what is composed, each with its reason.

/// Components inside components, and types inside types, that are looked into. Compositions of compositions have a few.
pub const DEPTH: usize = 100;

/// Imports of one component, and exports: those of the largest worlds in use have about fifty interfaces. Types are
/// compared, and encoded anew, for each.
pub const NAMES: usize = 1000;

/// How many imports are named that nobody has: the first ones say what kind of host is meant.
pub const SHOWN: usize = 5;
