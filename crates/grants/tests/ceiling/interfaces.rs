//! Chosen requests for optional interfaces.

use grants::policy::Policy;
use grants::{Grants, Package};

use crate::{of_pod, on_node, refused};

fn offered(grants: &Grants) -> Vec<&'static str> {
    grants.interfaces.offered().into_iter().map(Package::name).collect()
}

#[test]
fn without_any_setting_a_guest_is_offered_all() {
    assert_eq!(Grants::default().interfaces.offered(), Package::ALL);
    assert_eq!(of_pod(&[]).interfaces.offered(), Package::ALL);
    assert!(!Grants::default().to_string().contains("interfaces"));
}

#[test]
fn a_pod_an_image_or_a_default_names_all_that_a_guest_is_offered() {
    let (two, both) = ("wasi:logging, wasi:config", ["wasi:config", "wasi:logging"]);
    assert_eq!(offered(&of_pod(&[("interfaces", two)])), both);
    assert_eq!(offered(&on_node("", &[("interfaces", two)], &[])), both);
    assert_eq!(offered(&on_node("defaults.interfaces = [\"wasi:nn\"]", &[], &[])), ["wasi:nn"]);
    let nothing = on_node("", &[("interfaces", two)], &[("interfaces", "")]);
    assert!(offered(&nothing).is_empty());
    let shown = nothing.to_string();
    let line = "interfaces: nothing (annotation of the Pod, wasmtime.shim/interfaces)\n";
    assert!(shown.contains(line), "{shown}");
}

#[test]
fn a_ceiling_applies_to_a_guest_for_which_nothing_is_named() {
    let file = "[ceiling]\ninterfaces = [\"wasi:logging\", \"wasi:http\"]\n";
    let grants = on_node(file, &[], &[]);
    assert_eq!(offered(&grants), ["wasi:http", "wasi:logging"]);
    let shown = grants.to_string();
    let line = "interfaces: wasi:http, wasi:logging (node's file, wasmtime.shim/interfaces)\n";
    assert!(shown.contains(line), "{shown}");
    assert_eq!(offered(&on_node(file, &[], &[("interfaces", "wasi:http")])), ["wasi:http"]);
    let rule = "[[rules]]\nnamespace = \"shop\"\nceiling.interfaces = []\n";
    let grants = on_node(&format!("{file}{rule}"), &[], &[]);
    assert!(offered(&grants).is_empty());
    assert!(grants.to_string().contains("interfaces: nothing (node's file, "), "{grants}");
}

#[test]
fn more_than_the_ceiling_is_refused_with_what_it_allows() {
    let error = refused(
        "ceiling.interfaces = [\"wasi:config\", \"wasi:http\"]",
        &[("interfaces", "wasi:config, wasi:keyvalue")],
    );
    let expected = "annotation wasmtime.shim/interfaces: \"wasi:keyvalue\" is more than [ceiling] in \
        /p.toml allows; allowed is \"wasi:config\", \"wasi:http\"";
    assert_eq!(error, expected);
    let text = Policy::parse("/p.toml", "[ceiling]\ninterfaces = [\"wasi:cli\"]\n");
    let text = text.expect_err("every guest has that").to_string();
    assert!(text.contains("\"wasi:cli\" is not valid; allowed is names with commas"), "{text}");
}
