//! The proposals beyond WebAssembly 2.0, and which of them a guest may use.
//!
//! [`PROPOSALS`] is the one table: the names of `wasmtime.shim/features`, what `engine` is configured with, and what is
//! reported to be missing all come from it. Wasmtime's
//! [tiers of support](https://docs.wasmtime.dev/stability-tiers.html) decide which proposals are in it.

use std::fmt;

use wasmparser::WasmFeatures;

/// What every guest may use: WebAssembly 2.0, and the component model with asynchronous functions (WASI 0.3).
const BASE: WasmFeatures =
    WasmFeatures::WASM2.union(WasmFeatures::COMPONENT_MODEL).union(WasmFeatures::CM_ASYNC);

/// Name of all proposals of WebAssembly 3.0 together.
const WASM3: &str = "wasm3";

/// A proposal that guests may use. Its name is the one that wasm-tools gives it.
struct Proposal {
    name: &'static str,
    flag: WasmFeatures,
}

/// First those of WebAssembly 3.0, which are on unless something else is named; then those that are on only by request.
/// These are complete and fuzzed in Wasmtime, but their specifications are not final.
const PROPOSALS: [Proposal; 11] = [
    Proposal { name: "tail-call", flag: WasmFeatures::TAIL_CALL },
    Proposal { name: "extended-const", flag: WasmFeatures::EXTENDED_CONST },
    Proposal { name: "multi-memory", flag: WasmFeatures::MULTI_MEMORY },
    Proposal { name: "memory64", flag: WasmFeatures::MEMORY64 },
    Proposal { name: "relaxed-simd", flag: WasmFeatures::RELAXED_SIMD },
    Proposal { name: "function-references", flag: WasmFeatures::FUNCTION_REFERENCES },
    Proposal { name: "gc", flag: WasmFeatures::GC },
    Proposal { name: "exceptions", flag: WasmFeatures::EXCEPTIONS },
    // Atomic instructions. A shared memory is refused all the same (`super::Refusal::SharedMemory`).
    Proposal { name: "threads", flag: WasmFeatures::THREADS },
    Proposal { name: "wide-arithmetic", flag: WasmFeatures::WIDE_ARITHMETIC },
    Proposal { name: "custom-page-sizes", flag: WasmFeatures::CUSTOM_PAGE_SIZES },
];

/// Proposals that Wasmtime implements in part, for experiments. It gives no security fixes for them.
const UNFINISHED: WasmFeatures = WasmFeatures::STACK_SWITCHING
    .union(WasmFeatures::CM_ASYNC_STACKFUL)
    .union(WasmFeatures::CM_MORE_ASYNC_BUILTINS)
    .union(WasmFeatures::CM_THREADING)
    .union(WasmFeatures::CM_ERROR_CONTEXT)
    .union(WasmFeatures::CM_GC)
    .union(WasmFeatures::CM_MAP)
    .union(WasmFeatures::CM64)
    .union(WasmFeatures::CM_FIXED_LENGTH_LISTS)
    .union(WasmFeatures::CM_IMPLEMENTS);

/// A set of the proposals that guests may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Features(WasmFeatures);

impl Features {
    /// WebAssembly 2.0 alone.
    pub const NONE: Features = Features(WasmFeatures::empty());

    /// What is on if nothing is named: WebAssembly 3.0.
    pub const DEFAULT: Features = Features(WasmFeatures::WASM3.difference(BASE));

    /// Everything that can be named.
    pub const OFFERED: Features = Features(
        Features::DEFAULT
            .0
            .union(WasmFeatures::WIDE_ARITHMETIC)
            .union(WasmFeatures::CUSTOM_PAGE_SIZES),
    );

    /// The proposal of that name with what it builds on, or those of `wasm3`.
    pub fn named(name: &str) -> Option<Features> {
        if name == WASM3 {
            return Some(Features::DEFAULT);
        }
        let flag = PROPOSALS.iter().find(|it| it.name == name)?.flag;
        // The types of one extend those of the other.
        let implied = match flag {
            WasmFeatures::GC => WasmFeatures::FUNCTION_REFERENCES,
            _ => WasmFeatures::empty(),
        };
        Some(Features(flag.union(implied)))
    }

    /// Those of either set.
    #[must_use]
    pub fn union(self, other: Features) -> Features {
        Features(self.0.union(other.0))
    }

    /// Those of both sets.
    #[must_use]
    pub fn intersection(self, other: Features) -> Features {
        Features(self.0.intersection(other.0))
    }

    /// Those that the other set does not have.
    #[must_use]
    pub fn difference(self, other: Features) -> Features {
        Features(self.0.difference(other.0))
    }

    /// Whether it has all of the other set.
    pub fn contains(self, other: Features) -> bool {
        self.0.contains(other.0)
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Names of the proposals, in the order of the table.
    pub fn names(self) -> Vec<&'static str> {
        let own = PROPOSALS.iter().filter(|it| self.0.contains(it.flag));
        own.map(|it| it.name).collect()
    }

    /// Everything that a guest with this set may use.
    pub fn flags(self) -> WasmFeatures {
        BASE.union(self.0)
    }

    /// The part of these flags that can be named.
    pub(super) fn of(flags: WasmFeatures) -> Features {
        Features(flags).intersection(Features::OFFERED)
    }
}

impl Default for Features {
    fn default() -> Features {
        Features::DEFAULT
    }
}

/// As the setting is written, in its shortest form.
impl fmt::Display for Features {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (names, rest) = match self.contains(Features::DEFAULT) {
            true => (vec![WASM3], self.difference(Features::DEFAULT)),
            false => (vec![], *self),
        };
        formatter.write_str(&[names, rest.names()].concat().join(", "))
    }
}

/// The names of proposals that no setting turns on, each with the reason.
pub(super) fn unsupported(flags: WasmFeatures) -> Vec<String> {
    let described = |(name, flag): (&str, WasmFeatures)| {
        let reason = match flag {
            flag if UNFINISHED.contains(flag) => "Wasmtime's support is not finished",
            _ => "Wasmtime does not support it",
        };
        format!("{} ({reason})", name.to_lowercase().replace('_', "-"))
    };
    flags.difference(Features::OFFERED.flags()).iter_names().map(described).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_proposal_that_is_offered_by_the_name_of_wasm_tools() {
        let all = PROPOSALS.iter().fold(Features::NONE, |all, it| all.union(Features(it.flag)));
        assert_eq!(all, Features::OFFERED);
        for (name, flag) in Features::OFFERED.0.iter_names() {
            let name = name.to_lowercase().replace('_', "-");
            assert!(Features::named(&name).is_some_and(|it| it.0.contains(flag)), "{name}");
        }
        assert!(
            Features::OFFERED.names().iter().all(|name| crate::FEATURES.allowed.contains(name))
        );
        assert!(crate::FEATURES.allowed.contains(WASM3));
        assert!(UNFINISHED.intersection(Features::OFFERED.flags()).is_empty());
    }

    #[test]
    fn a_set_is_written_as_short_as_it_can_be_read() {
        let set = |names: &[&str]| {
            let sets = names.iter().map(|name| Features::named(name).expect("is in the table"));
            sets.fold(Features::NONE, Features::union)
        };
        for (names, text) in [
            (&["wasm3"][..], "wasm3"),
            (&["custom-page-sizes", "wasm3"], "wasm3, custom-page-sizes"),
            (&["gc", "tail-call"], "tail-call, function-references, gc"),
            (&[], ""),
        ] {
            assert_eq!(set(names).to_string(), text);
            assert_eq!(
                set(&text.split(", ").filter(|it| !it.is_empty()).collect::<Vec<_>>()),
                set(names)
            );
        }
        assert_eq!(Features::named("stack-switching"), None);
    }
}
