//! Why components cannot be composed.

use std::fmt;

use crate::limits::{DEPTH, NAMES, SHOWN};

/// Why components cannot be composed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing to compose.
    #[error("there is no component to compose")]
    Empty,
    /// More components than an image may have.
    #[error("{0} components are to be composed, and at most {limit} are", limit = provided::LAYERS)]
    Many(usize),
    /// More bytes than are compiled.
    #[error("the components have {0} bytes, and at most {limit} are compiled", limit = provided::WASM_BYTES)]
    Large(u64),
    /// A core module, which has no interfaces by which it could be composed.
    #[error(
        "{0} is a core module, and only components can be composed: `wasm-image componentize` makes it one"
    )]
    Module(String),
    /// Truncated, damaged, or of a proposal that is not supported.
    #[error("{layer} is not a valid component: {reason}")]
    Invalid {
        /// Which component.
        layer: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// Components inside components, or types inside types, without end.
    #[error("{0} has components or types in each other, more than {DEPTH} deep")]
    Deep(String),
    /// Too many imports or exports.
    #[error("{0} has more than {NAMES} imports or exports")]
    Wide(String),
    /// Imports that nobody has.
    #[error("{}", in_words(.0))]
    Missing(Vec<Missing>),
    /// An import that several have.
    #[error(
        "{importer} imports {import}, which several layers export: {}; leave all but one out",
        .candidates.join(", ")
    )]
    Ambiguous {
        /// The component that imports it.
        importer: String,
        /// The interface with its version, or the function.
        import: String,
        /// Each with what it exports, in words.
        candidates: Vec<String>,
    },
    /// Components that need each other, so that none can be the first to be instantiated.
    #[error("the layers import from each other in a circle: {}", .0.join(", "))]
    Cycle(Vec<String>),
    /// An export that has the name of an import and another type.
    #[error("{exporter} exports {export}, but not as {importer} imports {import}: {reason}")]
    Mismatch {
        /// The component that imports it.
        importer: String,
        /// By this name.
        import: String,
        /// The component that exports it.
        exporter: String,
        /// By this name.
        export: String,
        /// What differs.
        reason: String,
    },
    /// Components that cannot be put together, although each import has its export.
    #[error("the layers cannot be composed: {0}")]
    Composition(String),
}

/// An import that neither the host nor a layer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The component that imports it.
    pub importer: String,
    /// The interface with its version, or the function.
    pub import: String,
    /// Other versions of it that layers export, in words.
    pub others: Vec<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} imports {}", self.importer, self.import)?;
        match self.others.is_empty() {
            true => Ok(()),
            false => write!(f, " ({}, which is no compatible version)", self.others.join(", ")),
        }
    }
}

fn in_words(missing: &[Missing]) -> String {
    let shown: Vec<_> = missing.iter().take(SHOWN).map(ToString::to_string).collect();
    let more = match missing.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}: neither the host nor another layer provides it", shown.join(", "))
}
