//! Tests of wasm layers from a real containerd. They need `containerd`, of any version, and its `ctr` in PATH.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod archive;
mod cache;
mod daemon;
mod requested;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use archive::{Archive, CONFIG, TAR, WASM, WASM_CONFIG, WASM_CONTENT, digest};
use daemon::{Daemon, NAMESPACE};
use image::{Component, Container, Error, Workload, resolve};

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
const NAME: &str = "registry.example/app:1";

/// Resolves the container with the id `c`, this entrypoint and an empty root file system.
async fn resolved(daemon: &Daemon, entrypoint: &str) -> Result<Workload, Error> {
    in_namespace(daemon, entrypoint, NAMESPACE).await
}

async fn in_namespace(
    daemon: &Daemon,
    entrypoint: &str,
    namespace: &str,
) -> Result<Workload, Error> {
    let rootfs = tempfile::tempdir().unwrap();
    resolve(&Container {
        containerd: Some(&daemon.socket()),
        namespace,
        id: "c",
        rootfs: rootfs.path(),
        args: &[entrypoint.into(), "--verbose".into()],
        cwd: Path::new("/"),
        env: &["PATH=/usr/bin:/bin".into()],
        mounts: &[],
        preinit: None,
        layers: &[],
    })
    .await
}

/// Starts a containerd with one image for `wasip1/wasm` and a container of it.
async fn with_image(config: &str, layers: &[(&str, &[u8])]) -> Daemon {
    let daemon = Daemon::start();
    import(&daemon, config, layers);
    daemon.container("c", NAME).await;
    daemon
}

fn import(daemon: &Daemon, config: &str, layers: &[(&str, &[u8])]) {
    let mut archive = Archive::default();
    let manifest = archive.image(config, "wasip1/wasm", layers);
    daemon.import(&archive.finish(NAME, manifest), &["--all-platforms"]);
}

fn component(workload: Workload) -> Component {
    match workload {
        Workload::Guest(component) => *component,
        Workload::Program => panic!("taken for a Linux program"),
    }
}

fn content(file: &mut File) -> Vec<u8> {
    assert_eq!(file.stream_position().unwrap(), 0);
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    bytes
}

#[tokio::test]
async fn wasm_layers_are_copied_in_order_and_other_layers_are_left_out() {
    // The layer is larger than one of containerd's messages, and larger than gRPC's default limit.
    let large = [COMPONENT, &b"0123456789abcdef".repeat(400_000)].concat();
    let layers = [(TAR, &b"not read"[..]), (WASM_CONTENT, &large), (WASM, MODULE)];
    let daemon = with_image(CONFIG, &layers).await;
    let component = component(resolved(&daemon, "#a:b/c@1.0.0#run").await.unwrap());
    let mut layers = component.layers().await.unwrap();
    assert_eq!(layers.len(), 2);
    assert!(content(&mut layers[0]) == large, "the first layer is different");
    assert_eq!(content(&mut layers[1]), MODULE);
    assert_eq!(component.export.as_deref(), Some("a:b/c@1.0.0#run"));
    assert_eq!(component.args, ["", "--verbose"]);
}

#[tokio::test]
async fn a_wasm_artifact_is_a_guest_with_any_entrypoint() {
    let daemon = with_image(WASM_CONFIG, &[(WASM, b"(component)")]).await;
    for entrypoint in ["/app.wasm", "app", "/", ""] {
        let component = component(resolved(&daemon, entrypoint).await.unwrap());
        assert_eq!(content(&mut component.layers().await.unwrap()[0]), b"(component)");
        assert_eq!(component.args[0], entrypoint);
    }
}

#[tokio::test]
async fn a_layer_that_is_not_wasm_is_refused_with_its_digest() {
    let native = b"\x7fELF\x02\x01\x01\xc8\0\0\0\0";
    for (layer, words) in [(&b"hello"[..], "is not wasm: it ends"), (native, "precompiled")] {
        let daemon = with_image(CONFIG, &[(WASM, MODULE), (WASM, layer)]).await;
        let component = component(resolved(&daemon, "/app.wasm").await.unwrap());
        let error = component.layers().await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains(words) && text.contains(&digest(layer)), "{text}");
        assert_eq!(error.exit_code(), 126);
    }
}

#[tokio::test]
async fn without_wasm_layers_a_guest_is_not_found_and_linux_reports_a_missing_program() {
    let daemon = with_image(CONFIG, &[(TAR, b"not read")]).await;
    let error = resolved(&daemon, "/app.wasm").await.unwrap_err();
    assert_eq!(error.exit_code(), 127);
    for words in ["\"/app.wasm\" not found", "no file /app.wasm", "no wasm layers"] {
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(matches!(resolved(&daemon, "/bin/missing").await.unwrap(), Workload::Program));
}

#[tokio::test]
async fn a_container_or_image_unknown_to_containerd_has_no_wasm_layers() {
    let daemon = with_image(CONFIG, &[(WASM, MODULE)]).await;
    assert!(matches!(in_namespace(&daemon, "sh", "other").await.unwrap(), Workload::Program));
    let error = in_namespace(&daemon, "sh#run", "other").await.unwrap_err();
    assert!(error.to_string().contains("knows no image of this container"), "{error}");

    let daemon = Daemon::start();
    daemon.container("c", "registry.example/gone:1").await;
    assert!(matches!(resolved(&daemon, "sh").await.unwrap(), Workload::Program));
    let daemon = Daemon::start();
    daemon.container("c", "").await;
    assert!(matches!(resolved(&daemon, "sh").await.unwrap(), Workload::Program));
}

#[tokio::test]
async fn null_layers_are_no_layers() {
    let mut archive = Archive::default();
    let manifest = archive.image(CONFIG, "linux/amd64", &[]);
    let null = archive.without_layers(&manifest);
    let daemon = Daemon::start();
    daemon.import(&archive.finish(NAME, null), &["--all-platforms"]);
    daemon.container("c", NAME).await;
    assert!(matches!(resolved(&daemon, "/bin/sh").await.unwrap(), Workload::Program));
    let error = resolved(&daemon, "/app.wasm").await.unwrap_err();
    assert!(error.to_string().contains("the image has no wasm layers"), "{error}");
}

#[tokio::test]
async fn the_wasm_image_of_an_index_is_used() {
    let mut archive = Archive::default();
    let linux = archive.image(CONFIG, "linux/amd64", &[(TAR, b"not read")]);
    let wasm = archive.image(CONFIG, "wasip2/wasm", &[(WASM, MODULE)]);
    let inner = archive.index(&[linux, wasm]);
    let index = archive.index(&[inner]);
    let daemon = Daemon::start();
    daemon.import(&archive.finish(NAME, index), &["--all-platforms"]);
    daemon.container("c", NAME).await;
    let component = component(resolved(&daemon, "app").await.unwrap());
    assert_eq!(content(&mut component.layers().await.unwrap()[0]), MODULE);
}

#[tokio::test]
async fn only_pulled_images_of_an_index_are_used() {
    let mut archive = Archive::default();
    let wasm = archive.image(CONFIG, "wasip2/wasm", &[(WASM, MODULE)]);
    let linux = archive.image(CONFIG, "linux/amd64", &[(TAR, b"not read")]);
    archive.forget(&wasm);
    let index = archive.index(&[wasm, linux]);
    let daemon = Daemon::start();
    daemon.import(&archive.finish(NAME, index), &["--platform", "linux/amd64"]);
    daemon.container("c", NAME).await;
    assert!(matches!(resolved(&daemon, "sh").await.unwrap(), Workload::Program));
    let error = resolved(&daemon, "app.wasm").await.unwrap_err();
    assert!(error.to_string().contains("the image has no wasm layers"), "{error}");
}
