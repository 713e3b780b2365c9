//! Defines which WebAssembly is compiled, and why other WebAssembly is refused.

use wasmparser::{Parser, Payload, TypeRef, Validator, WasmFeatures};

/// The proposals that a guest may use: WebAssembly 3.0, and the component model with asynchronous functions (WASI 0.3).
/// `engine` is configured with exactly these.
pub const FEATURES: WasmFeatures =
    WasmFeatures::WASM3.union(WasmFeatures::COMPONENT_MODEL).union(WasmFeatures::CM_ASYNC);

/// Reason why a module or component is not compiled, as a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is truncated or damaged. The text includes the position.
    #[error("it is not valid WebAssembly: {0}")]
    Invalid(String),
    /// It is valid, but uses proposals that are not in [`FEATURES`]. They have the names that wasm-tools gives them.
    #[error(
        "it needs parts of WebAssembly that are not supported: {}; supported are WebAssembly 3.0 and the component model with \
         asynchronous functions",
        .0.join(", ")
    )]
    Unsupported(Vec<String>),
    /// It has a memory that several threads may use.
    #[error(
        "it has a shared memory, which is for threads, and a guest has only one thread; build it without threads, for instance \
         for wasm32-wasip1 instead of wasm32-wasip1-threads"
    )]
    SharedMemory,
}

/// Checks that a binary module or component can be compiled.
///
/// # Errors
/// [`Refusal`].
pub fn check(wasm: &[u8]) -> Result<(), Refusal> {
    match validate(wasm, FEATURES) {
        Ok(()) if has_shared_memory(wasm) => Err(Refusal::SharedMemory),
        Ok(()) => Ok(()),
        Err(error) => Err(missing(wasm).map_or(Refusal::Invalid(error), Refusal::Unsupported)),
    }
}

/// Returns whether one of its modules has or imports a memory that threads may share. The search ends at a malformed
/// part.
pub fn has_shared_memory(wasm: &[u8]) -> bool {
    Parser::new(0).parse_all(wasm).map_while(Result::ok).any(|payload| match payload {
        Payload::MemorySection(memories) => memories.into_iter().flatten().any(|it| it.shared),
        Payload::ImportSection(imports) => {
            let mut types = imports.into_imports().flatten().map(|import| import.ty);
            types.any(|ty| matches!(ty, TypeRef::Memory(memory) if memory.shared))
        }
        _ => false,
    })
}

fn validate(wasm: &[u8], features: WasmFeatures) -> Result<(), String> {
    let checked = Validator::new_with_features(features).validate_all(wasm);
    checked.map(drop).map_err(|error| error.to_string())
}

/// Finds the smallest set of proposals beside [`FEATURES`] with which it is valid. Returns `None` if it is not valid
/// with all of them.
fn missing(wasm: &[u8]) -> Option<Vec<String>> {
    let mut needed = WasmFeatures::all();
    validate(wasm, needed).ok()?;
    for proposal in WasmFeatures::all().difference(FEATURES) {
        let fewer = needed.difference(proposal);
        if validate(wasm, fewer).is_ok() {
            needed = fewer;
        }
    }
    let names = needed.difference(FEATURES).iter_names();
    Some(names.map(|(name, _)| name.to_lowercase().replace('_', "-")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Option<Refusal> {
        check(&wat::parse_str(text).expect("parses")).err()
    }

    #[test]
    fn a_proposal_that_is_not_supported_is_named_and_no_other() {
        for (text, name) in [
            ("(module (func try catch_all end))", "legacy-exceptions"),
            ("(module (memory 1 (pagesize 1)))", "custom-page-sizes"),
            (
                "(module (func (param i64 i64 i64 i64) (result i64 i64)
                    local.get 0 local.get 1 local.get 2 local.get 3 i64.add128))",
                "wide-arithmetic",
            ),
            (r#"(component (import "f" (func (param "p" (list u8 4)))))"#, "cm-fixed-length-lists"),
        ] {
            assert_eq!(refusal(text), Some(Refusal::Unsupported(vec![name.into()])), "{text}");
        }
        let both = "(module (memory 1 (pagesize 1)) (func try catch_all end))";
        let text = refusal(both).expect("is refused").to_string();
        assert!(text.contains("custom-page-sizes, legacy-exceptions"), "{text}");
    }

    #[test]
    fn a_shared_memory_is_found_wherever_it_is() {
        for text in [
            "(module (memory 1 1 shared))",
            r#"(module (import "env" "memory" (memory 1 1 shared)))"#,
            "(component (component (core module (memory 1 1 shared))))",
        ] {
            assert_eq!(refusal(text), Some(Refusal::SharedMemory), "{text}");
        }
        // Atomic instructions alone are harmless.
        let atomic = "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))";
        assert_eq!(refusal(atomic), None);
    }

    #[test]
    fn a_damaged_module_is_refused_with_the_place_of_the_fault() {
        let wasm = wat::parse_str("(module (func))").expect("parses");
        let text = check(&wasm[..wasm.len() - 1]).expect_err("is refused").to_string();
        assert!(text.contains("not valid WebAssembly") && text.contains("offset 0x"), "{text}");
    }
}
