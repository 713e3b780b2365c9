//! Proposals of WebAssembly, as the setting names them.

use std::fmt;

use provided::FEATURES;
use provided::wasm::Features;

use crate::text::as_text;

/// An entry of `wasmtime.shim/features`: a proposal, or `wasm3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    name: String,
    /// What it names.
    pub features: Features,
}

as_text!(Feature, FEATURES);

impl Feature {
    fn parse(entry: &str) -> Option<Feature> {
        Some(Feature { name: entry.to_owned(), features: Features::named(entry)? })
    }

    /// Everything that the entries name.
    pub fn all(entries: &[Feature]) -> Features {
        entries.iter().fold(Features::NONE, |all, entry| all.union(entry.features))
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_is_written_as_it_is_read() {
        for text in ["wasm3", "gc", "wide-arithmetic"] {
            let feature: Feature = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(feature.to_string(), text);
        }
        for text in ["", "GC", "stack-switching", "simd", "all"] {
            let error = text.parse::<Feature>().expect_err(text).to_string();
            assert!(error.contains("allowed is wasm3 or names of proposals"), "{error}");
        }
    }
}
