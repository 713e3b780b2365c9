//! Converting images that do not start on a node, or not by themselves, into ones that do.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::registry::Registry;
use crate::support::{COMMAND, Work};

const HOST: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// A layout in a directory, which a test can read and change.
pub struct Layout<'a>(pub &'a Path);

impl Layout<'_> {
    fn json(&self, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().unwrap();
        let path = self.0.join("blobs").join(digest.replacen(':', "/", 1));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    fn index(&self) -> Value {
        serde_json::from_slice(&fs::read(self.0.join("index.json")).unwrap()).unwrap()
    }

    /// Returns the first entry.
    pub fn first(&self) -> Value {
        self.json(&self.index()["manifests"][0])
    }

    fn add(&self, media_type: &str, content: &Value) -> Value {
        use sha2::Digest;
        let text = content.to_string();
        let digest: String =
            sha2::Sha256::digest(&text).iter().map(|it| format!("{it:02x}")).collect();
        fs::write(self.0.join("blobs/sha256").join(&digest), &text).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": text.len() })
    }

    /// Lists another manifest or index instead of the first one.
    fn list(&self, mut descriptor: Value) {
        let mut index = self.index();
        descriptor["annotations"] = index["manifests"][0]["annotations"].clone();
        index["manifests"] = json!([descriptor]);
        fs::write(self.0.join("index.json"), index.to_string()).unwrap();
    }
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Makes the image of `FROM scratch` and `COPY app.wasm /` with `--platform wasi/wasm`: an index with the image and its
/// provenance.
fn as_buildx(work: &Work) {
    work.file("app.wat", COMMAND);
    work.file("hello", "hello");
    let options = "--platform wasi/wasm --cmd /app.wat --env A=1 --label l=1";
    work.run(&format!("build --file app.wat:/app.wat {options} -t r.example/app:1 -o built")).ok();
    work.run("build --file hello:/hello --platform unknown/unknown -t r.example/app:2 -o built")
        .ok();
    let directory = work.path("built");
    let layout = Layout(&directory);
    let mut entries = layout.index()["manifests"].as_array().unwrap().clone();
    for (entry, platform) in entries.iter_mut().zip([("wasi", "wasm"), ("unknown", "unknown")]) {
        entry.as_object_mut().unwrap().remove("annotations");
        entry["platform"] = json!({ "os": platform.0, "architecture": platform.1 });
    }
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    layout.list(layout.add(INDEX, &index));
}

#[test]
fn an_image_for_wasm_with_ordinary_layers_becomes_one_for_the_node() {
    let work = Work::new();
    as_buildx(&work);
    work.run("convert built -t r.example/app:2 -o mended").ok();
    let directory = work.path("mended");
    let layout = Layout(&directory);
    let manifest = layout.first();
    let config = layout.json(&manifest["config"]);
    assert_eq!((&config["os"], &config["architecture"]), (&json!("linux"), &json!(HOST)));
    assert_eq!(config["config"]["Cmd"], json!(["/app.wat"]));
    assert_eq!(
        (&config["config"]["Env"], &config["config"]["Labels"]["l"]),
        (&json!(["A=1"]), &json!("1"))
    );
    let report = work.run("inspect mended --format json").ok().json();
    assert_eq!(report["guests"][0]["name"], "/app.wat");
    let error = work.run("convert mended -t r.example/app:3 -o again").fails(1);
    assert!(
        error.contains("needs no conversion") && error.contains("not for a platform of wasm"),
        "{error}"
    );
}

#[test]
fn it_becomes_an_index_for_several_kinds_of_nodes_and_is_taken_apart_again() {
    let work = Work::new();
    as_buildx(&work);
    let platforms = "--platform linux/amd64,linux/arm64 --entrypoint /app.wat --env B=2";
    work.run(&format!("convert built -t r.example/app:2 -o mended.tgz {platforms}")).ok();
    let error = work.run("copy mended.tgz oci:one --platform linux/s390x").fails(3);
    assert!(error.contains("no image for linux/s390x; it has linux/amd64, linux/arm64"), "{error}");
    work.run("copy mended.tgz oci:one --platform linux/arm64").ok();
    let directory = work.path("one");
    let layout = Layout(&directory);
    let manifest = layout.first();
    assert_eq!(manifest["mediaType"], MANIFEST);
    let config = layout.json(&manifest["config"]);
    assert_eq!(config["architecture"], "arm64");
    assert_eq!(config["config"]["Entrypoint"], json!(["/app.wat"]));
    assert_eq!(config["config"]["Env"], json!(["A=1", "B=2"]));
    assert_eq!(
        fs::read_dir(directory.join("blobs/sha256")).unwrap().count(),
        3,
        "nothing of the other"
    );
    work.run("copy oci:one oci:two --platform linux/arm64").ok();
    work.run("copy oci:one oci:two --platform linux/amd64").fails(3);
}

#[test]
fn wasm_layers_that_an_older_builder_counted_are_counted_no_longer() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    let options = "--file app.wat:/data --platform wasi/wasm -t r.example/app:1";
    work.run(&format!("build app.wat {options} -o built")).ok();
    let directory = work.path("built");
    let layout = Layout(&directory);
    let mut manifest = layout.first();
    let mut config = layout.json(&manifest["config"]);
    let tar = config["rootfs"]["diff_ids"][0].clone();
    let wasm = manifest["layers"][1]["digest"].clone();
    config["rootfs"]["diff_ids"] = json!([tar, wasm]);
    manifest["config"] = layout.add("application/vnd.oci.image.config.v1+json", &config);
    layout.list(layout.add(MANIFEST, &manifest));
    work.run("convert built -t r.example/app:2 -o mended").ok();
    let directory = work.path("mended");
    let layout = Layout(&directory);
    let config = layout.json(&layout.first()["config"]);
    assert_eq!(config["rootfs"]["diff_ids"], json!([tar]));
}

#[test]
fn what_runs_as_it_is_is_left_alone() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    work.run("build app.wat -t r.example/app:1 -o app.tar").ok();
    let error = work.run("convert app.tar -t r.example/app:2 -o x.tar").fails(1);
    assert!(error.contains("needs no conversion: it has no ordinary layers"), "{error}");
    assert!(!work.path("x.tar").exists());
}

#[test]
fn an_artifact_has_a_title_which_stays() {
    let work = Work::new();
    work.file("hello.wat", COMMAND);
    work.run("build hello.wat -t r.example/lib:1 --artifact -o lib").ok();
    let title = |directory: &str| {
        let directory = work.path(directory);
        Layout(&directory).first()["layers"][0]["annotations"]["org.opencontainers.image.title"]
            .clone()
    };
    assert_eq!(title("lib"), "hello.wasm");
    work.run("convert lib -t r.example/team/app:1 -o app").ok();
    assert_eq!(title("app"), "hello.wasm");

    let directory = work.path("lib");
    let layout = Layout(&directory);
    let mut manifest = layout.first();
    manifest["layers"][0].as_object_mut().unwrap().remove("annotations");
    layout.list(layout.add(MANIFEST, &manifest));
    work.run("convert lib -t r.example/team/app:1 -o other").ok();
    assert_eq!(title("other"), "app.wasm");
}

#[test]
fn a_list_that_is_null_is_an_empty_one() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    work.run("build app.wat -t r.example/app:1 -o empty").ok();
    let directory = work.path("empty");
    let layout = Layout(&directory);
    let mut manifest = layout.first();
    manifest["layers"] = Value::Null;
    layout.list(layout.add(MANIFEST, &manifest));
    let copied = work.run("copy oci:empty x.tar --format json").ok().json();
    assert_eq!(copied["sent"], 1, "the config");
    let registry = Registry::start();
    let name = format!("{}/empty:1", registry.address);
    work.run(&format!("push empty {name} --plain-http")).ok();
    work.run(&format!("pull {name} -o pulled --plain-http")).ok();
    let pulled = work.path("pulled");
    assert_eq!(Layout(&pulled).first(), manifest);
}
