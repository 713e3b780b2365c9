//! The linkers hold what the crate `provided` says, and the engine compiles what it says, so that `wasm-image inspect` can
//! judge as the shim does.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use engine::{Layer, Runtime};
use provided::{Interface, MODULE, MODULE_FUNCTIONS, interfaces};

/// Why a guest in text form is not compiled: at least because it has no entry.
fn refusal(runtime: &Runtime, text: &str) -> String {
    // Else any refusal would do.
    wat::parse_str(text).expect("the text of a component or module");
    let compiled = runtime.compile(&[Layer { name: "app".into(), wasm: text.into() }], None);
    compiled.expect_err("a guest without an entry is refused").to_string()
}

/// Whether Wasmtime says that what was imported is not there; another type than asked for is there.
fn is_missing(refusal: &str) -> bool {
    refusal.contains("implementation is missing")
}

/// A component that imports one item of an interface, with the simplest type that its name allows.
fn importing(interface: &str, item: &Item) -> String {
    let item = match item {
        Item::Function(name) => format!(r#"(export "{name}" (func))"#),
        Item::Resource(name) => format!(r#"(export "{name}" (type (sub resource)))"#),
        Item::Of { resource, name } => {
            let function = match name.split_once(']').map(|(kind, _)| kind) {
                Some("[method") => r#"(func (param "self" (borrow $it)))"#,
                Some("[constructor") => "(func (result (own $it)))",
                _ => "(func)",
            };
            format!(
                r#"(export "{resource}" (type $it (sub resource))) (export "{name}" {function})"#
            )
        }
    };
    format!(r#"(component (import "{interface}" (instance {item})))"#)
}

/// An item of an interface by the form of its name (component model, "Import and Export Definitions").
enum Item<'a> {
    Function(&'a str),
    Resource(&'a str),
    Of { resource: &'a str, name: &'a str },
}

/// A resource is one that others of the interface's names belong to, or that has none of its own.
fn item<'a>(interface: &Interface, name: &'a str) -> Item<'a> {
    const WITHOUT_METHODS: [&str; 3] = ["network", "terminal-input", "terminal-output"];
    if let Some((_, rest)) = name.split_once(']') {
        return Item::Of { resource: rest.split('.').next().unwrap_or(rest), name };
    }
    let owns = |other: &&str| {
        other.split_once(']').is_some_and(|(_, it)| it.split('.').next() == Some(name))
    };
    match interface.items.iter().any(owns) || WITHOUT_METHODS.contains(&name) {
        true => Item::Resource(name),
        false => Item::Function(name),
    }
}

#[test]
fn every_function_and_resource_of_the_table_is_there_for_components() {
    let runtime = Runtime::new().expect("a runtime");
    for interface in interfaces() {
        let name = format!("{}@{}", interface.name, interface.version);
        for name_of_item in &interface.items {
            let text = importing(&name, &item(&interface, name_of_item));
            let refusal = refusal(&runtime, &text);
            assert!(!is_missing(&refusal), "{name} {name_of_item}: {refusal}");
        }
    }
}

#[test]
fn what_the_table_does_not_have_is_not_there() {
    let runtime = Runtime::new().expect("a runtime");
    for interface in interfaces() {
        let name = format!("{}@{}", interface.name, interface.version);
        let refusal = refusal(&runtime, &importing(&name, &Item::Function("no-such-function")));
        assert!(is_missing(&refusal), "{name}: {refusal}");
    }
    for other in [
        "wasi:nn/inference@0.2.0-rc-2024-10-28",
        "wasi:config/store@0.2.0-rc.1",
        "wasi:keyvalue/store@0.2.0",
    ] {
        let refusal = refusal(&runtime, &importing(other, &Item::Function("get")));
        assert!(is_missing(&refusal), "{other}: {refusal}");
    }
}

#[test]
fn modules_find_the_functions_of_wasi_01_and_no_others() {
    let runtime = Runtime::new().expect("a runtime");
    let import =
        |name: &str| refusal(&runtime, &format!(r#"(module (import "{MODULE}" "{name}" (func)))"#));
    for name in MODULE_FUNCTIONS {
        assert!(!import(name).contains("unknown import"), "{name}: {}", import(name));
    }
    assert!(import("sock_open").contains("unknown import"), "{}", import("sock_open"));
}

/// One guest for each proposal that a node could take or refuse.
const PROPOSALS: [&str; 20] = [
    "(module (func (return_call 0)))",
    "(module (memory i64 1))",
    "(module (memory 1) (memory 1))",
    "(module (type (struct (field i32))))",
    "(module (tag) (func (try_table (catch_all 0))))",
    "(module (func (param v128) (result v128) (i32x4.relaxed_trunc_f32x4_s (local.get 0))))",
    "(module (memory 1) (func (drop (i32.atomic.load (i32.const 0)))))",
    "(module (global i32 (i32.add (i32.const 1) (i32.const 2))))",
    r#"(component (import "f" (func async (param "p" (stream u8)))))"#,
    "(module (memory 1 1 shared))",
    r#"(module (import "env" "memory" (memory 1 1 shared)))"#,
    "(module (func try catch_all end))",
    "(module (memory 1 (pagesize 1)))",
    "(module (func (param i64 i64) (result i64 i64) (i64.mul_wide_s (local.get 0) (local.get 1))))",
    "(module (type $f (func)) (type (cont $f)))",
    "(module (type (shared (func))))",
    r#"(component (import "f" (func (param "p" (list u8 4)))))"#,
    r#"(component (import "f" (func (param "p" (map string u8)))))"#,
    r#"(component (import "f" (func (param "p" error-context))))"#,
    "(component (core func (canon thread.index)))",
];

#[test]
fn the_engine_compiles_the_proposals_that_are_supported_and_names_the_others() {
    let runtime = Runtime::new().expect("a runtime");
    let mut refused = 0;
    for text in PROPOSALS {
        let wasm = wat::parse_str(text).expect("the text of a component or module");
        let refusal = refusal(&runtime, text);
        match provided::wasm::check(&wasm) {
            // What is left to complain of is an import, or that there is no entry.
            Ok(()) => assert!(
                refusal.contains("there is no export") || refusal.contains("provided are"),
                "{text}: {refusal}"
            ),
            Err(reason) => {
                refused += 1;
                assert!(refusal.ends_with(&reason.to_string()), "{text}: {refusal}");
                assert!(!refusal.contains("not valid"), "{text}: {refusal}");
            }
        }
    }
    assert_eq!(refused, 11);
}
