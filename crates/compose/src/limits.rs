//! Limits on compositions, each with its reason.

/// Nesting depth of components and of types. Compositions of compositions have a few levels.
pub const DEPTH: usize = 100;

/// Imports of one component, and exports of one component. The largest worlds in use have about fifty interfaces. The
/// types of each import and export are compared and encoded anew.
pub const NAMES: usize = 1000;

/// Number of missing imports that an error names. The first ones show which kind of host the component expects.
pub const SHOWN: usize = 5;
