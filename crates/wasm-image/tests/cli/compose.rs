//! Composing several components into one.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::support::Work;

/// The sample: a till, its taxes, and their rates.
fn shop() -> Work {
    let work = Work::new();
    for name in ["app", "tax", "rates"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/composed");
        work.file(&format!("{name}.wat"), fs::read(source.join(format!("{name}.wat"))).unwrap());
    }
    work
}

#[test]
fn components_become_one_that_has_no_imports_left() {
    let work = shop();
    let done = work.run("compose app.wat tax.wat rates.wat -o whole.wasm").ok();
    assert!(done.stdout.starts_with("whole.wasm, a component of "), "{done:?}");
    assert!(
        done.stdout
            .contains("tax.wat imports acme:shop/rates@1.0.0 of rates.wat (acme:shop/rates@1.1.0)"),
        "{done:?}"
    );
    let guest = work.run("inspect whole.wasm --format json").json()["guests"][0].clone();
    assert_eq!((&guest["imports"], &guest["exports"]), (&json!([]), &json!(["gross"])));
}

#[test]
fn an_image_s_layers_are_composed_as_files_are() {
    let work = shop();
    work.run("compose app.wat tax.wat rates.wat -o of-files.wasm").ok();
    let build = "build app.wat tax.wat rates.wat -t r.example/app:1 --entrypoint /app.wasm#gross";
    let done = work.run(&format!("{build} -o app.tar")).ok();
    assert_eq!(done.stderr, "");
    let report = work.run("compose app.tar -o of-image.wasm --format json").ok().json();
    assert_eq!(report["wires"][0]["exporter"], "tax.wat");
    let bytes = |name: &str| fs::read(work.path(name)).unwrap();
    assert!(bytes("of-files.wasm") == bytes("of-image.wasm"));

    let report = work.run("inspect app.tar --format json").ok().json();
    assert_eq!(
        (&report["runs"], &report["guests"][2]["name"]),
        (&true.into(), &"rates.wat".into())
    );
    let text = work.run("inspect app.tar").ok().stdout;
    assert!(
        text.contains("composed      app.wat imports acme:shop/tax@1.0.0 of tax.wat"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_composed_ends_with_code_5_and_is_a_warning_of_build() {
    let work = shop();
    let error = work.run("compose app.wat tax.wat -o whole.wasm").fails(5);
    let expected = "tax.wat imports acme:shop/rates@1.0.0: neither the host nor another layer";
    assert!(error.contains(expected), "{error}");
    assert!(!work.path("whole.wasm").exists());
    let done = work.run("build app.wat tax.wat -t r.example/app:1 -o app.tar").ok();
    assert!(done.stderr.contains("warning: ") && done.stderr.contains(expected), "{done:?}");
    let error = work.run("inspect app.tar").fails(5);
    assert!(error.contains(expected), "{error}");

    work.file("module.wat", "(module)");
    let error = work.run("compose app.wat module.wat -o whole.wasm").fails(5);
    assert!(error.contains("module.wat is a core module"), "{error}");
    work.file("root/etc/motd", "hello");
    work.run("build --rootfs root --entrypoint /x -t r.example/l:1 -o linux.tar").ok();
    let error = work.run("compose linux.tar -o whole.wasm").fails(3);
    assert!(error.contains("linux.tar has no wasm layer"), "{error}");
}

#[test]
fn a_component_that_nothing_imports_from_is_a_warning() {
    let work = shop();
    work.file("lib.wat", "(component)");
    for line in [
        "compose app.wat lib.wat tax.wat rates.wat -o whole.wasm",
        "build app.wat lib.wat tax.wat rates.wat -t r.example/app:1 -o app.tar",
    ] {
        let done = work.run(line).ok();
        assert!(done.stderr.contains("warning: lib.wat is left out"), "{done:?}");
    }
    let text = work.run("inspect app.tar").fails(5);
    assert!(text.contains("it has no entry: it exports gross"), "{text}");
}
