//! Compositions of components of a few lines.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use std::time::{Duration, Instant};

use compose::{Composed, Error, Layer, compose};
use wasmparser::{Parser, Payload};

/// Makes a component that exports functions. Each of them calls the imported functions and adds one. Interfaces have
/// the form `acme:db/query@1.0.0` and one function, `get`.
fn component(imports: &[&str], exports: &[&str]) -> Vec<u8> {
    let instance = |at: usize, name: &&str| {
        format!(
            r#"(import "{name}" (instance $i{at} (export "get" (func (result u32)))))
               (core func $f{at} (canon lower (func $i{at} "get")))"#
        )
    };
    let import = |at| format!(r#"(import "" "{at}" (func $f{at} (result i32)))"#);
    let call = |at| format!("(i32.add (call $f{at}))");
    let given = |at| format!(r#"(export "{at}" (func $f{at}))"#);
    let each = |text: &dyn Fn(usize) -> String| (0..imports.len()).map(text).collect::<String>();
    let export = |name: &&str| format!(r#"(export "{name}" (instance $own))"#);
    let text = format!(
        r#"(component {}
            (core module $m {} (func (export "get") (result i32) i32.const 1 {}))
            (core instance $given {})
            (core instance $i (instantiate $m (with "" (instance $given))))
            (func $get (result u32) (canon lift (core func $i "get")))
            (instance $own (export "get" (func $get)))
            {})"#,
        imports.iter().enumerate().map(|(at, name)| instance(at, name)).collect::<String>(),
        each(&import),
        each(&call),
        each(&given),
        exports.iter().map(export).collect::<String>(),
    );
    wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn composed(layers: &[(&str, &[u8])]) -> Result<Composed, Error> {
    let layers: Vec<_> = layers.iter().map(|&(name, wasm)| Layer { name, wasm }).collect();
    compose(&layers, &provided::interfaces())
}

fn refusal(layers: &[(&str, &[u8])]) -> String {
    composed(layers).expect_err("is refused").to_string()
}

/// Returns the names of a component's own imports and exports, and the number of components inside it.
fn outside(wasm: &[u8]) -> (Vec<String>, Vec<String>, usize) {
    let (mut imports, mut exports, mut components, mut depth) = (vec![], vec![], 0, 0);
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.expect("is valid") {
            Payload::ComponentSection { .. } => {
                components += usize::from(depth == 0);
                depth += 1;
            }
            Payload::ModuleSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentImportSection(all) if depth == 0 => {
                imports.extend(all.into_iter().map(|it| it.unwrap().name.name.to_owned()));
            }
            Payload::ComponentExportSection(all) if depth == 0 => {
                exports.extend(all.into_iter().map(|it| it.unwrap().name.name.to_owned()));
            }
            _ => {}
        }
    }
    (imports, exports, components)
}

#[test]
fn a_chain_of_components_becomes_one_without_unused_components() {
    let app = component(&["acme:db/query@1.0.0"], &["acme:app/main@1.0.0"]);
    let query = component(&["acme:db/disk@1.0.0"], &["acme:db/query@1.0.2"]);
    let disk = component(&[], &["acme:db/disk@1.0.0"]);
    let unused = component(&["acme:no/body@9.0.0"], &["acme:un/used@1.0.0"]);
    let layers = [("app", &*app), ("query", &*query), ("unused", &*unused), ("disk", &*disk)];
    let made = composed(&layers).expect("composes");
    let (imports, exports, components) = outside(&made.wasm);
    assert_eq!((imports, components), (vec![], 3));
    assert_eq!(exports, ["acme:app/main@1.0.0"]);
    assert_eq!(made.unused, [2]);
    assert_eq!(made.wires[0].export, "acme:db/query@1.0.2");
    let again = composed(&layers).expect("composes");
    assert_eq!(made.wasm, again.wasm, "the same components become the same component");
}

#[test]
fn what_the_host_has_stays_an_import_and_once() {
    // The function of the clocks that takes nothing and returns a number.
    let component = |version: &str, other: &str| {
        let text = format!(
            r#"(component
                (import "wasi:clocks/monotonic-clock@{version}"
                    (instance (export "now" (func (result u64)))))
                {other})"#
        );
        wat::parse_str(text).unwrap()
    };
    let query = r#"(instance $own) (export "acme:db/query@1.0.0" (instance $own))"#;
    let app = component("0.2.0", r#"(import "acme:db/query@1.0.0" (instance))"#);
    let lib = component("0.2.3", query);
    let made = composed(&[("app", &app), ("lib", &lib)]).expect("composes");
    assert_eq!(outside(&made.wasm).0, ["wasi:clocks/monotonic-clock@0.2.3"]);
}

#[test]
fn errors_for_two_no_and_incompatible_candidates_name_them() {
    let app = component(&["acme:db/query@1.0.0"], &["acme:app/main@1.0.0"]);
    let one = component(&[], &["acme:db/query@1.0.0"]);
    let text = refusal(&[("app.wasm", &app), ("one.wasm", &one), ("other.wasm", &one)]);
    assert!(
        text.starts_with("app.wasm imports acme:db/query@1.0.0, which several layers export")
            && text.contains("one.wasm (acme:db/query@1.0.0), other.wasm ("),
        "{text}"
    );
    let none = component(&[], &["acme:db/store@1.0.0"]);
    let text = refusal(&[("app.wasm", &app), ("none.wasm", &none)]);
    let expected =
        "app.wasm imports acme:db/query@1.0.0: neither the host nor another layer provides it";
    assert_eq!(text, expected);
    let newer = component(&[], &["acme:db/query@2.0.0"]);
    let text = refusal(&[("app.wasm", &app), ("newer.wasm", &newer)]);
    assert!(text.contains("newer.wasm exports acme:db/query@2.0.0, which is no"), "{text}");
}

#[test]
fn components_that_import_from_each_other_are_an_error_with_the_circle() {
    let app = component(&["a:b/one@1.0.0"], &["a:b/app@1.0.0"]);
    let one = component(&["a:b/two@1.0.0"], &["a:b/one@1.0.0"]);
    let two = component(&["a:b/one@1.0.0"], &["a:b/two@1.0.0"]);
    let text = refusal(&[("app", &app), ("one", &one), ("two", &two)]);
    assert!(
        text.contains("one imports a:b/two@1.0.0 of two, two imports a:b/one@1.0.0 of one"),
        "{text}"
    );
}

#[test]
fn the_error_for_an_export_of_another_type_names_both_sides() {
    let app = component(&["acme:db/query@1.0.0"], &[]);
    let text_result = wat::parse_str(
        r#"(component
            (core module $m (func (export "get") (result f64) f64.const 1))
            (core instance $i (instantiate $m))
            (func $get (result f64) (canon lift (core func $i "get")))
            (instance $own (export "get" (func $get)))
            (export "acme:db/query@1.0.0" (instance $own)))"#,
    );
    let text = refusal(&[("app", &app), ("lib", &text_result.unwrap())]);
    assert!(
        text.starts_with("lib exports acme:db/query@1.0.0, but not as app imports")
            && text.contains("f64")
            && text.contains("u32"),
        "{text}"
    );
}

#[test]
fn the_error_for_a_layer_that_is_no_component_names_it() {
    let app = component(&["acme:db/query@1.0.0"], &[]);
    let module = wat::parse_str("(module)").unwrap();
    let text = refusal(&[("app", &app), ("lib.wasm", &module)]);
    assert!(
        text.starts_with("lib.wasm is a core module") && text.contains("componentize"),
        "{text}"
    );
    for bad in [&app[..app.len() - 3], b"\0asm\x0d\0\x01\0\xff\x01\0", b"", b"hello"] {
        let text = refusal(&[("app", &app), ("lib.wasm", bad)]);
        assert!(text.starts_with("lib.wasm is not a valid component"), "{text}");
    }
    assert!(matches!(composed(&[]), Err(Error::Empty)));
}

/// Upper bound for the time that a hostile component takes, in a slow build on a busy machine. Without limits it would
/// take minutes.
const SOON: Duration = Duration::from_secs(20);

#[test]
fn what_is_hostile_is_refused_soon_and_with_a_sentence() {
    let started = Instant::now();
    let app = component(&["acme:db/query@1.0.0"], &[]);
    let deep = nested(10_000, b"\0asm\x0d\0\x01\0".to_vec());
    let text = refusal(&[("app", &app), ("deep", &deep)]);
    assert!(text.contains("deep nests components or types more than 100 deep"), "{text}");

    let names: Vec<String> = (0..450).map(|at| format!("a:b/c{at}@1.0.0")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // Close to the number of instances that a component may have (1000).
    let (many, wide) = (component(&names, &[]), component(&[], &names));
    assert_eq!(composed(&[("app", &many), ("wide", &wide)]).expect("composes").wires.len(), 450);
    let exports: String = (0..1001).map(|at| format!(r#"(export "t{at}" (type $t))"#)).collect();
    let wide = wat::parse_str(format!("(component (type $t (enum \"a\")) {exports})")).unwrap();
    let text = refusal(&[("app", &app), ("wide", &wide)]);
    assert!(text.contains("wide has more than 1000 imports or exports"), "{text}");

    let small = component(&[], &["acme:db/query@1.0.0"]);
    let text = refusal(&vec![("small", &*small); 33]);
    assert!(text.contains("cannot compose 33 components; allowed is at most 32"), "{text}");

    // A list of lists of lists…, and a pair of pairs of pairs…
    for ty in ["(list $t{})", "(tuple $t{} $t{})"] {
        for depth in [90, 10_000] {
            let types = (0..depth).map(|at| {
                let name = format!("(type $t{} {})\n", at + 1, ty.replace("{}", &at.to_string()));
                name
            });
            let types: String = types.collect();
            let text = format!(
                r#"(component (type $t0 u32) {types} (import "f" (func (param "x" $t{depth}))))"#
            );
            let Ok(wasm) = wat::parse_str(text) else { continue };
            drop(composed(&[("app", &wasm), ("lib", &small)]).expect_err("is refused"));
        }
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn types_of_instances_in_each_other_do_not_exhaust_the_stack() {
    let small = component(&[], &["acme:db/query@1.0.0"]);
    for (depth, is_refused) in [(50, false), (101, true), (100_000, true)] {
        // (type (instance (type (instance …)))): an instance with one declaration, which is a type.
        let innermost = [0x42, 0];
        let ty = [[0x42, 1, 1].repeat(depth), innermost.to_vec()].concat();
        let section = [&[1][..], &ty].concat();
        let wasm = [&b"\0asm\x0d\0\x01\0\x07"[..], &leb(section.len()), &section].concat();
        let refused = composed(&[("app", &wasm), ("lib", &small)]).is_err();
        assert_eq!(refused, is_refused, "{depth}");
    }
}

fn nested(depth: usize, mut wasm: Vec<u8>) -> Vec<u8> {
    for _ in 0..depth {
        wasm = [&b"\0asm\x0d\0\x01\0\x04"[..], &leb(wasm.len()), &wasm].concat();
    }
    wasm
}

fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

#[test]
fn an_interface_of_types_alone_needs_no_provider() {
    let types = r#"(import "acme:shop/types@1.0.0" (instance
        (type $kind (enum "net" "gross")) (export "kind" (type (eq $kind)))))"#;
    let app = format!(
        r#"(component {types} (import "acme:shop/store@1.0.0" (instance $store
            (export "get" (func (result u32))))) (export "store" (instance $store)))"#
    );
    let store = format!(
        r#"(component {types}
            (core module $m (func (export "get") (result i32) i32.const 1))
            (core instance $i (instantiate $m))
            (func $get (result u32) (canon lift (core func $i "get")))
            (instance $own (export "get" (func $get)))
            (export "acme:shop/store@1.0.0" (instance $own)))"#
    );
    let [app, store] = [app, store].map(|text| wat::parse_str(text).expect("parses"));
    let done = composed(&[("app", &app), ("store", &store)]).expect("composes");
    assert_eq!(done.wires.len(), 1);
    assert_eq!(outside(&done.wasm).0, ["acme:shop/types@1.0.0"]);
}
