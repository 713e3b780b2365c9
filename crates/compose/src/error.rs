//! Reasons why components cannot be composed.

use std::fmt;

use crate::limits::{DEPTH, NAMES, SHOWN};

/// A reason why components cannot be composed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no component.
    #[error("there is no component to compose")]
    Empty,
    /// There are more components than an image may have.
    #[error("cannot compose {0} components; allowed is at most {limit}", limit = provided::LAYERS)]
    Many(usize),
    /// The components are larger than what may be compiled.
    #[error("the components have {0} bytes; allowed is at most {limit}", limit = provided::WASM_BYTES)]
    Large(u64),
    /// A layer is a core module, which has no interfaces to compose.
    #[error(
        "{0} is a core module, and only components can be composed: `wasm-image componentize` makes it one"
    )]
    Module(String),
    /// A layer is truncated, damaged, or uses a proposal that is not supported.
    #[error("{layer} is not a valid component: {reason}")]
    Invalid {
        /// Name of the component.
        layer: String,
        /// The fault and its position.
        reason: String,
    },
    /// Components or types are nested too deeply.
    #[error("{0} nests components or types more than {DEPTH} deep")]
    Deep(String),
    /// A component has too many imports or exports.
    #[error("{0} has more than {NAMES} imports or exports")]
    Wide(String),
    /// Nothing provides some imports.
    #[error("{}", in_words(.0))]
    Missing(Vec<Missing>),
    /// Several layers export what one imports.
    #[error(
        "{importer} imports {import}, which several layers export: {}; leave all but one out",
        .candidates.join(", ")
    )]
    Ambiguous {
        /// Name of the component that imports.
        importer: String,
        /// The interface with its version, or the function.
        import: String,
        /// The layers that export it, each with the name of its export.
        candidates: Vec<String>,
    },
    /// Components import from each other, so that none can be instantiated first.
    #[error("the layers import from each other in a circle: {}", .0.join(", "))]
    Cycle(Vec<String>),
    /// An export has the name of an import but another type.
    #[error("{exporter} exports {export}, but not as {importer} imports {import}: {reason}")]
    Mismatch {
        /// Name of the component that imports.
        importer: String,
        /// Name of the import.
        import: String,
        /// Name of the component that exports.
        exporter: String,
        /// Name of the export.
        export: String,
        /// The difference between the types.
        reason: String,
    },
    /// The components cannot be composed although each import has an export.
    #[error("the layers cannot be composed: {0}")]
    Composition(String),
}

/// An import that neither the host nor a layer provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Name of the component that imports.
    pub importer: String,
    /// The interface with its version, or the function.
    pub import: String,
    /// Layers that export other versions of it, each with the name of its export.
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
