//! The linkers hold what the crate `provided` says, and the engine compiles what it says, so that `wasm-image inspect` can
//! judge as the shim does.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use engine::{Layer, Runtime};
use grants::{CodeSettings, Feature, Names};
use provided::wasm::{Features, Refusal};
use provided::{Interface, MODULE, MODULE_FUNCTIONS, interfaces};

/// Why a guest in text form is not compiled: at least because it has no entry.
fn refusal(runtime: &Runtime, text: &str) -> String {
    refusal_of(runtime, text, &CodeSettings::default())
}

fn refusal_of(runtime: &Runtime, text: &str, code: &CodeSettings) -> String {
    // Else any refusal would do.
    wat::parse_str(text).expect("the text of a component or module");
    let compiled = runtime.compile(&[Layer { name: "app".into(), wasm: text.into() }], None, code);
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
        let name = interface.to_string();
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
        let name = interface.to_string();
        let refusal = refusal(&runtime, &importing(&name, &Item::Function("no-such-function")));
        assert!(is_missing(&refusal), "{name}: {refusal}");
    }
    for other in [
        "wasi:nn/inference@0.2.0-rc-2024-08-19",
        "wasi:config/store@0.2.0",
        "wasi:keyvalue/store@0.2.0",
        "wasi:logging/logging@0.1.0",
        "wasi:tls/client@0.3.0-draft",
    ] {
        let refusal = refusal(&runtime, &importing(other, &Item::Function("get")));
        assert!(is_missing(&refusal), "{other}: {refusal}");
    }
}

/// A component that imports `wasi:config` of that name, as its WIT has it.
fn of_config(name: &str, error: &str) -> String {
    format!(
        r#"(component (import "wasi:config/{name}" (instance
            (type $error' (variant (case "upstream" string) (case "io" string)))
            (export "{error}" (type $error (eq $error')))
            (export "get" (func (param "key" string) (result (result (option string) (error $error)))))
            (export "get-all" (func (result (result (list (tuple string string)) (error $error)))))))
        )"#
    )
}

fn of_logging(name: &str) -> String {
    format!(
        r#"(component (import "wasi:logging/{name}" (instance
            (type $level' (enum "trace" "debug" "info" "warn" "error" "critical"))
            (export "level" (type $level (eq $level')))
            (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
        )"#
    )
}

/// The interfaces of `wasi:keyvalue` of a draft; drafts differ in these types, and in what else `atomics` has.
fn of_keyvalue(version: &str, cursor: &str, number: &str, more: &str) -> String {
    format!(
        r#"(component
            (import "wasi:keyvalue/store@{version}" (instance $store
                (export "bucket" (type $bucket (sub resource)))
                (type $error' (variant (case "no-such-store") (case "access-denied") (case "other" string)))
                (export "error" (type $error (eq $error')))
                (type $keys' (record (field "keys" (list string)) (field "cursor" (option {cursor}))))
                (export "key-response" (type $keys (eq $keys')))
                (export "open" (func (param "identifier" string) (result (result (own $bucket) (error $error)))))
                (export "[method]bucket.get" (func (param "self" (borrow $bucket)) (param "key" string)
                    (result (result (option (list u8)) (error $error)))))
                (export "[method]bucket.set" (func (param "self" (borrow $bucket)) (param "key" string)
                    (param "value" (list u8)) (result (result (error $error)))))
                (export "[method]bucket.delete" (func (param "self" (borrow $bucket)) (param "key" string)
                    (result (result (error $error)))))
                (export "[method]bucket.exists" (func (param "self" (borrow $bucket)) (param "key" string)
                    (result (result bool (error $error)))))
                (export "[method]bucket.list-keys" (func (param "self" (borrow $bucket))
                    (param "cursor" (option {cursor})) (result (result $keys (error $error)))))))
            (alias export $store "bucket" (type $bucket))
            (alias export $store "error" (type $error))
            (import "wasi:keyvalue/atomics@{version}" (instance
                (export "bucket" (type $of (eq $bucket)))
                (export "error" (type $why (eq $error)))
                (export "increment" (func (param "bucket" (borrow $of)) (param "key" string)
                    (param "delta" {number}) (result (result {number} (error $why)))))
                {more}))
            (import "wasi:keyvalue/batch@{version}" (instance
                (export "bucket" (type $of (eq $bucket)))
                (export "error" (type $why (eq $error)))
                (export "get-many" (func (param "bucket" (borrow $of)) (param "keys" (list string))
                    (result (result (list (option (tuple string (list u8)))) (error $why)))))
                (export "set-many" (func (param "bucket" (borrow $of))
                    (param "key-values" (list (tuple string (list u8)))) (result (result (error $why)))))
                (export "delete-many" (func (param "bucket" (borrow $of)) (param "keys" (list string))
                    (result (result (error $why)))))))
        )"#
    )
}

/// What `atomics` has in the newer draft.
const SWAP: &str = r#"
    (export "cas" (type $cas (sub resource)))
    (type $failed' (variant (case "store-error" $why) (case "cas-failed" (own $cas))))
    (export "cas-error" (type $failed (eq $failed')))
    (export "[static]cas.new" (func (param "bucket" (borrow $of)) (param "key" string)
        (result (result (own $cas) (error $why)))))
    (export "[method]cas.current" (func (param "self" (borrow $cas))
        (result (result (option (list u8)) (error $why)))))
    (export "swap" (func (param "cas" (own $cas)) (param "value" (list u8)) (result (result (error $failed)))))"#;

#[test]
fn each_draft_has_the_types_that_its_wit_says() {
    let runtime = Runtime::new().expect("a runtime");
    let is_linked = |text: &str| refusal(&runtime, text).contains("there is no export");
    for (text, other) in [
        (of_config("store@0.2.0-rc.1", "error"), ("\"io\" string", "\"io\"")),
        (of_config("store@0.2.0-draft", "error"), ("\"io\" string", "\"io\"")),
        (of_config("store@0.2.0-draft-2024-09-27", "error"), ("\"io\" string", "\"io\"")),
        (of_config("runtime@0.2.0-draft", "config-error"), ("\"io\" string", "\"io\"")),
        (of_logging("logging"), (" \"critical\"", "")),
        (of_logging("logging@0.1.0-draft"), (" \"critical\"", "")),
        (of_keyvalue("0.2.0-draft", "u64", "u64", ""), ("\"delta\" u64", "\"delta\" s64")),
        (of_keyvalue("0.2.0-draft2", "string", "s64", SWAP), ("(own $cas))", "string)")),
    ] {
        assert!(is_linked(&text), "{text}\n{}", refusal(&runtime, &text));
        // Other types are seen.
        assert!(!is_linked(&text.replace(other.0, other.1)), "{text}");
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

/// How code is made that may use these proposals.
fn with(features: Features) -> CodeSettings {
    let entry = |name: &str| name.parse::<Feature>().expect("is in the table");
    let entries = features.names().into_iter().map(entry).collect();
    CodeSettings { features: Names::of_image(Some(entries)), ..Default::default() }
}

#[test]
fn the_engine_compiles_the_proposals_that_are_on_and_names_the_others() {
    let runtime = Runtime::new().expect("a runtime");
    let no_gc = Features::DEFAULT.difference(Features::named("gc").expect("is in the table"));
    for (features, expected) in
        [(Features::DEFAULT, 11), (Features::OFFERED, 9), (Features::NONE, 19), (no_gc, 12)]
    {
        let (code, mut refused) = (with(features), 0);
        assert_eq!(code.features(), features);
        for text in PROPOSALS {
            let wasm = wat::parse_str(text).expect("the text of a component or module");
            let refusal = refusal_of(&runtime, text, &code);
            let Err(reason) = provided::wasm::check(&wasm, features) else {
                // What is left to complain of is an import, or that there is no entry.
                let is_other =
                    refusal.contains("there is no export") || refusal.contains("provided are");
                assert!(is_other, "{text}: {refusal}");
                continue;
            };
            refused += 1;
            let end = match &reason {
                Refusal::Off(off) => format!("{reason}; {}", code.remedy(*off)),
                reason => reason.to_string(),
            };
            assert!(refusal.ends_with(&end), "{text}: {refusal}");
            assert!(!refusal.contains("not valid"), "{text}: {refusal}");
        }
        assert_eq!(refused, expected, "{features}");
    }
}
