//! Defines which WebAssembly is compiled, and why other WebAssembly is refused.

mod features;

use wasmparser::{Parser, Payload, TypeRef, Validator, WasmFeatures};

pub use features::Features;

/// Reason why a module or component is not compiled, as a sentence about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is truncated or damaged. The text includes the position.
    #[error("it is not valid WebAssembly: {0}")]
    Invalid(String),
    /// It is valid, but uses proposals that no setting turns on, each with the reason. They have the names that wasm-tools
    /// gives them.
    #[error("it needs parts of WebAssembly that are not supported: {}", .0.join(", "))]
    Unsupported(Vec<String>),
    /// It uses proposals that are off.
    #[error("it needs parts of WebAssembly that are off: {}", .0.names().join(", "))]
    Off(Features),
    /// It has a memory that several threads may use.
    #[error(
        "it has a shared memory, which is for threads, and a guest has only one thread; build it without threads, for instance \
         for wasm32-wasip1 instead of wasm32-wasip1-threads"
    )]
    SharedMemory,
}

/// Checks that a binary module or component can be compiled for a guest that may use these proposals.
///
/// # Errors
/// [`Refusal`].
pub fn check(wasm: &[u8], allowed: Features) -> Result<(), Refusal> {
    match validate(wasm, allowed.flags()) {
        Ok(()) if has_shared_memory(wasm) => Err(Refusal::SharedMemory),
        Ok(()) => Ok(()),
        Err(error) => Err(missing(wasm, allowed).unwrap_or(Refusal::Invalid(error))),
    }
}

/// Returns what a binary module or component needs beyond WebAssembly 2.0 and the component model. Returns `None` if it is
/// not valid with everything that is offered.
pub fn needs(wasm: &[u8]) -> Option<Features> {
    let (base, all) = (Features::NONE.flags(), Features::OFFERED.flags());
    let needed = least(wasm, base, all);
    validate(wasm, base.union(needed)).is_ok().then(|| Features::of(needed))
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

/// Finds why something is refused that uses more than these proposals. Returns `None` if it is not valid with all that
/// exist.
fn missing(wasm: &[u8], allowed: Features) -> Option<Refusal> {
    let all = WasmFeatures::all();
    validate(wasm, all).ok()?;
    if has_shared_memory(wasm) {
        return Some(Refusal::SharedMemory);
    }
    let needed = least(wasm, allowed.flags(), all);
    let unsupported = features::unsupported(needed);
    Some(match unsupported.is_empty() {
        true => Refusal::Off(Features::of(needed)),
        false => Refusal::Unsupported(unsupported),
    })
}

/// Finds the smallest set of proposals with which it is valid, of those in `all` and not in `base`. It must be valid with
/// all of them.
fn least(wasm: &[u8], base: WasmFeatures, all: WasmFeatures) -> WasmFeatures {
    // Of two that would do, the last one is found. The older proposals are the first flags.
    let mut candidates: Vec<WasmFeatures> = all.difference(base).iter().collect();
    candidates.reverse();
    least_of(wasm, base, &candidates)
}

/// Halves the candidates, so that few of them cost few validations (Junker, "QuickXplain").
fn least_of(wasm: &[u8], base: WasmFeatures, candidates: &[WasmFeatures]) -> WasmFeatures {
    if candidates.is_empty() || validate(wasm, base).is_ok() {
        return WasmFeatures::empty();
    }
    if let [last] = candidates {
        return *last;
    }
    let (left, right) = candidates.split_at(candidates.len() / 2);
    let all = |part: &[WasmFeatures]| part.iter().copied().collect::<WasmFeatures>();
    let of_left = least_of(wasm, base.union(all(right)), left);
    of_left.union(least_of(wasm, base.union(of_left), right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> Option<Refusal> {
        check(&wat::parse_str(text).expect("parses"), Features::DEFAULT).err()
    }

    fn set(names: &[&str]) -> Features {
        let sets = names.iter().map(|name| Features::named(name).expect("is in the table"));
        sets.fold(Features::NONE, Features::union)
    }

    const WIDE: &str = "(module (func (param i64 i64 i64 i64) (result i64 i64)
        local.get 0 local.get 1 local.get 2 local.get 3 i64.add128))";

    #[test]
    fn a_proposal_that_is_off_or_not_supported_is_named_and_no_other() {
        for (text, names) in [
            ("(module (memory 1 (pagesize 1)))", &["custom-page-sizes"][..]),
            (WIDE, &["wide-arithmetic"]),
        ] {
            assert_eq!(refusal(text), Some(Refusal::Off(set(names))), "{text}");
            let wasm = wat::parse_str(text).expect("parses");
            assert_eq!(check(&wasm, set(names)), Ok(()), "{text}");
            assert!(check(&wasm, Features::NONE).is_err(), "{text}");
        }
        for (text, reason) in [
            (
                "(module (func try catch_all end))",
                "legacy-exceptions (Wasmtime does not support it)",
            ),
            (
                r#"(component (import "f" (func (param "p" (list u8 4)))))"#,
                "cm-fixed-length-lists (Wasmtime's support is not finished)",
            ),
            (
                "(module (type $f (func)) (type (cont $f)))",
                "stack-switching (Wasmtime's support is not finished)",
            ),
        ] {
            assert_eq!(refusal(text), Some(Refusal::Unsupported(vec![reason.into()])), "{text}");
        }
        // What no setting turns on is said first.
        let both = "(module (memory 1 (pagesize 1)) (func try catch_all end))";
        let text = refusal(both).expect("is refused").to_string();
        assert!(
            text.contains("legacy-exceptions") && !text.contains("custom-page-sizes"),
            "{text}"
        );
    }

    #[test]
    fn each_proposal_can_be_turned_off_alone() {
        for (name, text) in [
            ("tail-call", "(module (func (return_call 0)))"),
            ("extended-const", "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))"),
            ("multi-memory", "(module (memory 1) (memory 1))"),
            ("memory64", "(module (memory i64 1))"),
            (
                "relaxed-simd",
                "(module (func (param v128) (result v128)
                    (i32x4.relaxed_trunc_f32x4_s (local.get 0))))",
            ),
            ("function-references", "(module (type $f (func)) (func (param (ref $f))))"),
            ("gc", "(module (type (struct (field i32))))"),
            ("exceptions", "(module (tag) (func (try_table (catch_all 0))))"),
            ("threads", "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))"),
            ("wide-arithmetic", WIDE),
            ("custom-page-sizes", "(module (memory 1 (pagesize 1)))"),
        ] {
            let (wasm, own) = (wat::parse_str(text).expect("parses"), set(&[name]));
            let needed = needs(&wasm).expect("is valid");
            assert_eq!(needed.names(), [name], "{text}");
            // What builds on it is off as well.
            let all = Features::OFFERED.names().into_iter().map(|name| set(&[name]));
            let others = all.filter(|other| !other.contains(own));
            let others = others.fold(Features::NONE, Features::union);
            let refused = check(&wasm, others).expect_err("is refused");
            assert!(matches!(refused, Refusal::Off(off) if off.names().contains(&name)), "{text}");
            assert_eq!(check(&wasm, own), Ok(()), "{text}");
        }
        assert_eq!(
            needs(&wat::parse_str("(module (memory 1))").expect("parses")),
            Some(Features::NONE)
        );
        assert_eq!(needs(b"\0asm\x01\0\0\0junk"), None);
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
        let text =
            check(&wasm[..wasm.len() - 1], Features::DEFAULT).expect_err("is refused").to_string();
        assert!(text.contains("not valid WebAssembly") && text.contains("offset 0x"), "{text}");
    }
}
