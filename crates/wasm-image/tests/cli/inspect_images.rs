//! The output of `inspect` for images that other tools made, by node, files and layers.

use serde_json::{Value, json};
use tests::layout::{self, CONFIG, Layout, TAR, WASM};

use crate::support::{COMMAND, Done, UNPROVIDED, Work};

/// System and processor of the node for which the image is judged.
const NODE: &str = "linux/amd64";

/// An image that a test assembles, and a directory for it.
struct Made {
    work: Work,
    layout: Layout,
}

impl Made {
    fn new() -> Made {
        let work = Work::new();
        let layout = Layout::new(&work.path("image")).unwrap();
        Made { work, layout }
    }

    /// Makes an image with layers of files, each with its entries, for a platform.
    fn files(&self, platform: &str, entrypoint: &[&str], layers: &[&[(&str, &[u8])]]) -> Value {
        let tars: Vec<_> = layers.iter().map(|entries| layout::tar(entries).unwrap()).collect();
        let blobs: Vec<_> = tars.iter().map(|tar| self.layout.blob(TAR, tar).unwrap()).collect();
        let diff_ids: Vec<_> = tars.iter().map(|tar| layout::digest(tar)).collect();
        self.image(platform, entrypoint, json!(blobs), &diff_ids)
    }

    fn image(
        &self,
        platform: &str,
        entrypoint: &[&str],
        layers: Value,
        diff_ids: &[String],
    ) -> Value {
        let (os, architecture) = platform.split_once('/').unwrap();
        let config = json!({
            "os": os, "architecture": architecture, "config": { "Entrypoint": entrypoint },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        self.layout.image(CONFIG, &config, layers).unwrap()
    }

    fn inspect(&self, image: Value, flags: &str) -> Done {
        self.layout.finish("registry.example/app:1", image).unwrap();
        self.work.run(&format!("inspect oci:image --format json --node {NODE} {flags}"))
    }

    /// Returns why the image does not run.
    #[track_caller]
    fn refusal(&self, image: Value, flags: &str) -> String {
        let done = self.inspect(image, flags);
        let report = done.json();
        done.fails(5);
        assert_eq!(report["runs"], false);
        report["reason"].as_str().unwrap().to_owned()
    }

    /// Returns the report of an image that runs.
    #[track_caller]
    fn report(&self, image: Value, flags: &str) -> Value {
        let report = self.inspect(image, flags).ok().json();
        assert_eq!(report["runs"], true);
        report
    }
}

#[test]
fn an_entrypoint_that_is_a_link_is_the_file_it_leads_to() {
    for link in
        ["app.wasm -> opt/real.wasm", "app.wasm -> /opt/real.wasm", "app.wasm => opt/real.wasm"]
    {
        let made = Made::new();
        let image = made.files(
            NODE,
            &["/app.wasm"],
            &[&[("opt/real.wasm", UNPROVIDED.as_bytes()), (link, b"")]],
        );
        let refused = made.refusal(image, "");
        assert!(refused.contains("acme:db/query@1.0.0"), "{link}: {refused}");
    }
}

#[test]
fn an_entrypoint_that_no_layer_has_is_named() {
    let made = Made::new();
    let guest = made.refusal(made.files(NODE, &["/x.wasm"], &[]), "");
    assert!(guest.contains("\"/x.wasm\" not found") && guest.contains("no wasm layers"), "{guest}");
    let program = made.refusal(made.files(NODE, &["/usr/bin/tool"], &[]), "");
    assert!(program.contains("no file /usr/bin/tool"), "{program}");
    let nothing = made.refusal(made.files(NODE, &[], &[]), "");
    assert!(nothing.contains("no entrypoint") && nothing.contains("`command`"), "{nothing}");
    let gone: &[&[(&str, &[u8])]] =
        &[&[("app.wasm", COMMAND.as_bytes())], &[(".wh.app.wasm", b"")]];
    let gone = made.refusal(made.files(NODE, &["/app.wasm"], gone), "");
    assert!(gone.contains("\"/app.wasm\" not found"), "{gone}");
}

#[test]
fn the_error_for_a_shell_form_without_a_shell_says_what_to_write() {
    let made = Made::new();
    let layer: &[(&str, &[u8])] = &[("app.wasm", COMMAND.as_bytes())];
    let refused =
        made.refusal(made.files(NODE, &["/bin/sh", "-c", "/app.wasm --all"], &[layer]), "");
    assert!(refused.contains(r#"ENTRYPOINT ["/app.wasm", "--all"]"#), "{refused}");
    let script: &[(&str, &[u8])] = &[("run", b"#!/bin/sh -e\nexec /app.wasm\n")];
    let refused = made.refusal(made.files(NODE, &["/run"], &[script]), "");
    assert!(refused.contains("a script for /bin/sh, which the image does not have"), "{refused}");
}

#[test]
fn of_an_index_the_image_is_judged_that_the_node_takes() {
    let made = Made::new();
    let good: &[(&str, &[u8])] = &[("app.wasm", COMMAND.as_bytes())];
    let bad: &[(&str, &[u8])] = &[("app.wasm", UNPROVIDED.as_bytes())];
    let amd64 = made.files("linux/amd64", &["/app.wasm"], &[bad]);
    let arm64 = made.files("linux/arm64", &["/app.wasm"], &[good]);
    let wasm = made.layout.blob(WASM, COMMAND.as_bytes()).unwrap();
    let wasm = made.image("wasip2/wasm", &["/app.wasm"], json!([wasm]), &[]);
    let both = [("wasip2/wasm", wasm.clone()), ("linux/amd64", amd64), ("linux/arm64", arm64)];
    let index = made.layout.index(&both).unwrap();
    assert!(made.refusal(index.clone(), "").contains("acme:db/query@1.0.0"));
    let done = made.work.run("inspect oci:image --format json --node linux/arm64").ok();
    assert_eq!(done.json()["runs"], true);

    let attested = [("wasip2/wasm", wasm.clone()), ("unknown/unknown", wasm)];
    let index = made.layout.index(&attested).unwrap();
    let refused = made.refusal(index, "");
    assert!(refused.contains("which has wasip2/wasm: add one for linux/amd64"), "{refused}");
    let empty = made.refusal(made.layout.index(&[]).unwrap(), "");
    assert!(empty.contains("which has none"), "{empty}");
}

#[test]
fn files_for_another_system_run_before_containerd_2_3_alone() {
    let made = Made::new();
    let layer: &[(&str, &[u8])] = &[("app.wasm", COMMAND.as_bytes())];
    let image = made.files("wasi/wasm", &["/app.wasm"], &[layer]);
    let refused = made.refusal(image.clone(), "");
    for words in ["for wasi/wasm", "since 2.3", "`--platform linux/amd64`"] {
        assert!(refused.contains(words), "{refused}");
    }
    made.refusal(image.clone(), "--containerd 2.3.1");
    for version in ["1.6.20", "1.7", "2.0.5", "2.2"] {
        made.report(image.clone(), &format!("--containerd {version}"));
    }
    let wasm = made.layout.blob(WASM, COMMAND.as_bytes()).unwrap();
    let image = made.image("wasip2/wasm", &["/app.wasm"], json!([wasm]), &[]);
    assert!(made.refusal(image.clone(), "--containerd 1.6").contains("containerd 1.6 refuses"));
    made.report(image, "--containerd 1.7");
}

#[test]
fn layers_are_what_their_type_says() {
    let made = Made::new();
    let gzip = made.layout.blob("application/wasm+gzip", COMMAND.as_bytes()).unwrap();
    let image = made.image(NODE, &["/app.wasm"], json!([gzip]), &[]);
    let done = made.inspect(image, "");
    let report = done.json();
    done.fails(5);
    assert!(report["reason"].as_str().unwrap().contains("no wasm layers"), "{report}");
    assert!(report["notes"][0].as_str().unwrap().contains("application/wasm+gzip"), "{report}");

    let tar = layout::tar(&[("app.wasm", COMMAND.as_bytes())]).unwrap();
    let zstd = made.layout.blob(&format!("{TAR}+zstd"), &layout::zstd(&tar).unwrap()).unwrap();
    let image = made.image(NODE, &["/app.wasm"], json!([zstd]), &[layout::digest(&tar)]);
    made.report(image, "");
    let image = made.image(NODE, &["/app.wasm"], json!([zstd]), &[layout::digest(b"")]);
    assert!(made.refusal(image, "").contains("containerd cannot unpack it: layer sha256:"));
}

#[test]
fn layers_that_are_null_are_none() {
    let made = Made::new();
    let image = made.image(NODE, &["/app.wasm"], Value::Null, &[]);
    assert!(made.refusal(image, "").contains("no wasm layers"));
}

#[test]
fn an_image_of_wasm_layers_without_an_entrypoint_runs_with_a_command() {
    let made = Made::new();
    let wasm = made.layout.blob(WASM, COMMAND.as_bytes()).unwrap();
    let image = made.image("wasip2/wasm", &[], json!([wasm]), &[]);
    assert_eq!(made.report(image, "")["needsCommand"], true);
    let text = made.work.run("inspect oci:image").ok().stdout;
    assert!(text.contains("in a Pod with a `command`"), "{text}");
}

#[test]
fn an_export_that_the_guest_does_not_have_is_named() {
    let made = Made::new();
    let layer: &[(&str, &[u8])] = &[("app.wasm", COMMAND.as_bytes())];
    let refused = made.refusal(made.files(NODE, &["/app.wasm#nope"], &[layer]), "");
    assert!(refused.contains("no export \"nope\": it exports wasi:cli/run@0.2.3"), "{refused}");
}
