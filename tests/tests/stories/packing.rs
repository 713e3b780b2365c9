//! How `wasm-image` packs a guest, on the node: compressed, with files beside it, for several kinds of nodes, and images
//! that it mends.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tests::containerd::{repository, wasm_image};
use tests::{Container, Node, Pod, RunningPod, command, on_each_containerd};

/// What the greeting guest says.
const GREETING: &str = "hello from wasi\n";

/// Runs `wasm-image`; `HELLO` stands for the greeting guest.
fn tool(words: &[&str]) -> Result<()> {
    let hello = repository().join("target/images/hello.wasm").display().to_string();
    let words = words.iter().map(|word| word.replace("HELLO", &hello));
    command::run(wasm_image(), words)?.success().map(drop)
}

/// Builds an archive.
fn archive(node: &Node, name: &str, words: &[&str]) -> Result<PathBuf> {
    let archive = node.volume("archives")?.join(format!("{name}.tar"));
    let path = archive.to_str().context("the archive's path is not UTF-8")?;
    let tag = named(name);
    tool(&[&["build", "--tag", &tag, "--output", path], words].concat())?;
    Ok(archive)
}

fn named(name: &str) -> String {
    format!("registry.example/packed/{name}:1")
}

/// Imports an archive, runs its image to its end without a `command`, and returns what it printed.
fn run(node: &Node, pod: &RunningPod<'_>, name: &str, archive: &Path) -> Result<String> {
    node.import_archive("k8s.io", archive)?;
    node.until_known(&named(name))?;
    let container = pod.run(&Container::new(name, &named(name)))?;
    let exit = container.wait()?;
    assert_eq!(exit.code, 0, "{name}: {exit:?}, {:?}", container.logs()?);
    Ok(container.logs()?.stdout)
}

/// An image that is built so says its greeting on each containerd that takes it.
fn greets(name: &str, words: &[&str], takes: fn(&Node) -> bool) -> Result<()> {
    on_each_containerd(|node| {
        if !takes(node) {
            return Ok(());
        }
        let image = archive(node, name, words)?;
        let pod = node.run_pod(&Pod::new(name))?;
        assert_eq!(run(node, &pod, name, &image)?, GREETING);
        Ok(())
    })
}

/// As a file, which every containerd takes.
const FILE: [&str; 4] = ["--file", "HELLO:/hello.wasm", "--entrypoint", "/hello.wasm"];

/// containerd 1.6 counts wasm layers among those to unpack, and refuses the image.
fn takes_wasm_layers(node: &Node) -> bool {
    !node.containerd.version.starts_with("1.6.")
}

#[test]
fn a_compressed_file_runs_as_others_do() -> Result<()> {
    greets("file", &[&FILE[..], &["--compress"]].concat(), |_| true)
}

#[test]
fn a_compressed_layer_runs_as_others_do() -> Result<()> {
    greets("layer", &["--compress", "HELLO"], takes_wasm_layers)
}

#[test]
fn a_layer_that_only_says_it_is_compressed_is_refused() -> Result<()> {
    on_each_containerd(|node| {
        if !takes_wasm_layers(node) {
            return Ok(());
        }
        let kind = ["--layer-media-type", "application/wasm+zstd", "HELLO"];
        node.import_archive("k8s.io", &archive(node, "lying", &kind)?)?;
        node.until_known(&named("lying"))?;
        let pod = node.run_pod(&Pod::new("lying"))?;
        let refused = pod.run(&Container::new("lying", &named("lying"))).err();
        let error = format!("{:#}", refused.context("it was started")?);
        assert!(error.contains("is not compressed with Zstandard"), "{error}");
        Ok(())
    })
}

#[test]
fn a_layer_with_files_beside_it_is_for_the_node() -> Result<()> {
    greets("both", &["HELLO", "--file", "HELLO:/data/copy"], takes_wasm_layers)
}

#[test]
fn an_archive_with_a_bill_of_materials_is_imported_as_others_are() -> Result<()> {
    greets("listed", &[&FILE[..], &["--sbom"]].concat(), |_| true)
}

#[test]
fn an_image_for_several_kinds_of_nodes_runs_on_this_one() -> Result<()> {
    greets("several", &[&FILE[..], &["--platform", "linux/amd64,linux/arm64"]].concat(), |_| true)
}

#[test]
fn files_for_a_platform_of_wasm_run_once_the_image_is_converted() -> Result<()> {
    on_each_containerd(|node| {
        let built = archive(node, "wasi", &[&FILE[..], &["--platform", "wasi/wasm"]].concat())?;
        let mended = built.with_file_name("mended.tar");
        let (from, to) = (built.display().to_string(), mended.display().to_string());
        tool(&["convert", &from, "--tag", &named("mended"), "--output", &to])?;
        let pod = node.run_pod(&Pod::new("mended"))?;
        assert_eq!(run(node, &pod, "mended", &mended)?, GREETING);
        Ok(())
    })
}
