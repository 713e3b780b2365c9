//! Images whose layers are compressed with Zstandard.

use std::path::Path;

use serde_json::{Value, json};

use crate::front::{Act, Front};
use crate::registry::Registry;
use crate::support::{COMMAND, Work};

/// A component with much repetition, as real ones have.
fn large() -> String {
    let data = "all work and no play makes jack a dull boy, ".repeat(20_000);
    COMMAND.replacen(
        "(core module $m",
        &format!("(core module $m (memory 20) (data (i32.const 0) \"{data}\")"),
        1,
    )
}

#[test]
fn compressed_layers_say_so_and_are_seen_as_what_they_unpack_to() {
    let work = Work::new();
    work.file("app.wat", large());
    let options = "-t r.example/app:1 --compress";
    work.run(&format!("build app.wat {options} -o app.tar")).ok();
    let report = work.run("inspect app.tar --format json").ok().json();
    let kinds: Vec<_> =
        report["layers"].as_array().unwrap().iter().map(|it| &it["mediaType"]).collect();
    assert_eq!(kinds, ["application/wasm+zstd"]);
    assert_eq!(
        (&report["runs"], &report["guests"][0]["world"]),
        (&json!(true), &json!("wasi:cli/command@0.2"))
    );
    assert!(report["guests"][0]["size"].as_u64().unwrap() > 800_000, "{report}");
    assert!(report["layers"][0]["size"].as_u64().unwrap() < 10_000, "{report}");

    work.run("compose app.tar -o whole.wasm").ok();
    let bytes = |name: &str| std::fs::read(work.path(name)).unwrap();
    assert!(bytes("whole.wasm").len() > 800_000);
    work.run("inspect whole.wasm").ok();
    work.run(&format!("build app.wat {options} -o again.tar")).ok();
    assert!(bytes("app.tar") == bytes("again.tar"), "the same input gives the same bytes");
}

#[test]
fn a_layer_that_does_not_match_its_type_is_refused() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    let kind = "--layer-media-type application/wasm+zstd";
    work.run(&format!("build app.wat -t r.example/app:1 -o app.tar {kind}")).ok();
    let error = work.run("inspect app.tar").fails(5);
    assert!(error.contains("not compressed with Zstandard, as its media type says"), "{error}");
}

/// The bytes that a mirror, which a copy filled, sends to a node in addition to the compressed guest.
#[test]
fn an_image_has_at_most_two_kilobytes_more_than_its_compressed_guest() {
    let (work, registry, mirror) = (Work::new(), Registry::start(), Registry::start());
    work.file("app.wat", large());
    let from = format!("{}/team/app:1", registry.address);
    let settings = "--env LOG=info --user 1000 --expose 8080 --label a=b --annotation c=d";
    work.run(&format!("build app.wat -t {from} --compress {settings} --push --plain-http")).ok();
    let front = Front::start(&mirror.address, |_| Act::Pass);
    let to = format!("{}/team/app:1", mirror.address);
    work.run(&format!("copy {from} {to} --plain-http")).ok();
    let line = format!("pull {}/team/app:1 -o app --plain-http", front.address);
    work.run(&line).ok();
    let guest = guest_size(&work.path("app"));
    let overhead = front.sent() - guest;
    assert!(overhead <= 2000, "{overhead} bytes beside the {guest} of the guest");
}

/// Returns the size of the layer of an image in a layout.
fn guest_size(layout: &Path) -> u64 {
    let read =
        |path: &Path| -> Value { serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap() };
    let index = read(&layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap();
    let manifest = read(&layout.join("blobs").join(digest.replacen(':', "/", 1)));
    manifest["layers"][0]["size"].as_u64().unwrap()
}
