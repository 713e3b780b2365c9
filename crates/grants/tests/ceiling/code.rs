//! Chosen requests for how a guest's code is made: proposals of WebAssembly, and fuel.

use grants::policy::Policy;
use grants::{Grants, MergeInput, Requested, merge};
use provided::wasm::Features;

use crate::{of_pod, on_node, refused};

fn features(grants: &Grants) -> String {
    grants.code.features().to_string()
}

#[test]
fn without_any_setting_a_guest_has_webassembly_3_and_no_limit_of_fuel() {
    let code = Grants::default().code;
    assert_eq!((code.features(), code.fuel()), (Features::DEFAULT, None));
    assert!(code.is_usual());
    assert_eq!(merge(&MergeInput::default()).map(|grants| grants.code), Ok(code));
}

#[test]
fn a_pod_or_an_image_names_all_that_its_guest_may_use() {
    for (value, expected) in [
        ("wasm3, wide-arithmetic", "wasm3, wide-arithmetic"),
        ("gc", "function-references, gc"),
        ("", ""),
    ] {
        assert_eq!(features(&of_pod(&[("features", value)])), expected);
        assert_eq!(features(&on_node("", &[("features", value)], &[])), expected);
    }
    let both =
        on_node("", &[("features", "gc"), ("fuel", "7")], &[("features", ""), ("fuel", "8")]);
    assert_eq!((features(&both), both.code.fuel()), (String::new(), Some(8)));
}

#[test]
fn a_ceiling_applies_to_a_guest_that_names_nothing() {
    let file = "[ceiling]\nfeatures = [\"gc\", \"exceptions\", \"wide-arithmetic\"]\nfuel = 1000\n";
    let grants = on_node(file, &[], &[]);
    // What is on only by request stays off.
    assert_eq!(features(&grants), "function-references, gc, exceptions");
    assert_eq!(grants.code.fuel(), Some(1000));
    let shown = grants.to_string();
    for line in [
        "WebAssembly beyond 2.0: function-references, gc, exceptions (node's file, wasmtime.shim/features)\n",
        "fuel: at most 1000 (node's file, wasmtime.shim/fuel)\n",
    ] {
        assert!(shown.contains(line), "no {line} in {shown}");
    }
    let asked = on_node(file, &[], &[("features", "wide-arithmetic"), ("fuel", "999")]);
    assert_eq!((features(&asked).as_str(), asked.code.fuel()), ("wide-arithmetic", Some(999)));
    let shown = asked.to_string();
    let line =
        "WebAssembly beyond 2.0: wide-arithmetic (annotation of the Pod, wasmtime.shim/features)\n";
    assert!(shown.contains(line), "{shown}");
    let defaults = "defaults.features = [\"tail-call\"]\ndefaults.fuel = 5\n";
    let grants = on_node(defaults, &[], &[]);
    assert_eq!((features(&grants).as_str(), grants.code.fuel()), ("tail-call", Some(5)));
    assert!(!Grants::default().to_string().contains("WebAssembly"));
}

#[test]
fn more_than_the_ceiling_is_refused_with_what_it_allows() {
    for (file, asked, error) in [
        (
            "ceiling.features = [\"gc\"]",
            ("features", "gc, tail-call"),
            "annotation wasmtime.shim/features: \"tail-call\" is more than [ceiling] in /p.toml allows; allowed is \"gc\"",
        ),
        (
            "ceiling.features = []",
            ("features", "wasm3"),
            "annotation wasmtime.shim/features: \"wasm3\" is more than [ceiling] in /p.toml allows; allowed is nothing",
        ),
        (
            "ceiling.fuel = 10",
            ("fuel", "11"),
            "annotation wasmtime.shim/fuel: \"11\" is more than [ceiling] in /p.toml allows; allowed is 10 or less",
        ),
    ] {
        assert_eq!(refused(file, &[asked]), error);
    }
    let rule =
        "ceiling.features = [\"wasm3\"]\n[[rules]]\nnamespace = \"shop\"\nceiling.features = []\n";
    let text = refused(rule, &[("features", "gc")]);
    assert!(text.contains("more than rule 1, namespace \"shop\" in /p.toml allows"), "{text}");
}

#[test]
fn a_value_that_is_none_is_refused_in_the_nodes_file_and_in_an_annotation() {
    for (line, part) in [
        ("features = [\"threading\"]", "\"threading\" is not valid; allowed is wasm3 or names"),
        ("fuel = 0", "\"0\" is not valid; allowed is a whole number of at least 1"),
        ("fuel = \"some\"", "\"some\" is not valid; allowed is a whole number of at least 1"),
    ] {
        let text = Policy::parse("/p.toml", &format!("[ceiling]\n{line}\n")).expect_err(line);
        assert!(text.to_string().contains(part), "{text}");
    }
    let text = Policy::parse("/p.toml", "ceiling.fuel = \"7\"").map(drop);
    assert_eq!(text, Ok(()));
    let mut requested = Requested::default();
    let invalid = requested.set("wasmtime.shim/features", "gc, stack-switching").expect_err("none");
    assert_eq!(invalid.entry, "stack-switching");
}
