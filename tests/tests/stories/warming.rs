//! `wasm-image warm`: compiles on the node before the first container, which then does not compile.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::command::{self, Output};
use tests::containerd::wasm_image;
use tests::large;
use tests::layout::{CONFIG, Layout, WASM};
use tests::node::KUBERNETES;
use tests::wait::{self, SOON};
use tests::{Container, Node, Pod, on_each_containerd};

use crate::composing::{code, packed};
use crate::identity::ends_with;

fn words(node: &Node, image: &str) -> Vec<String> {
    let socket = node.socket().display().to_string();
    ["warm", image, "--address", &socket, "--format", "json"].map(str::to_owned).to_vec()
}

fn warm(node: &Node, image: &str) -> Result<Output> {
    command::run(wasm_image(), words(node, image))
}

/// Report of the command on an image that it has warmed.
pub fn warmed(node: &Node, image: &str) -> Result<Value> {
    let done = warm(node, image)?.success().with_context(|| format!("warm {image}"))?;
    Ok(serde_json::from_str(&done.stdout)?)
}

/// Objects in containerd, besides those of the Pods.
fn left(node: &Node) -> Result<HashSet<String>> {
    let mut left = HashSet::new();
    for what in
        ["containers list --quiet", "tasks list --quiet", "leases list --quiet", "snapshots list"]
    {
        let lines = node.ctr.lines(KUBERNETES, what)?;
        left.extend(lines.into_iter().filter(|line| line.contains("wasm-image-warm")));
    }
    Ok(left)
}

#[test]
fn the_first_container_after_it_does_not_compile() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.image("hello-http")?;
        assert_eq!(code(node)?, [], "compiled before anybody asked");
        let first = warmed(node, &image)?;
        assert_eq!(first["compiled"], true, "{first}");
        let kept = code(node)?;
        assert_eq!(kept.len(), 1);
        assert_eq!(left(node)?, HashSet::new());

        let again = warmed(node, &image)?;
        assert_eq!(again["compiled"], false, "{again}");
        assert!(again["seconds"].as_f64() < first["seconds"].as_f64(), "{first} {again}");

        let pod = node.run_pod(&Pod::new("warm"))?;
        let _guest = pod.run(&Container::new("app", &image))?;
        assert_eq!(pod.http_get(8080, "/")?.status, 200);
        assert_eq!(code(node)?, kept, "compiled again");
        Ok(())
    })
}

/// An index of a guest for a platform of wasm and another for the node's, which is the one that its Pods get; returns its
/// name, and the digest of the latter.
fn two_platforms(node: &Node) -> Result<(String, String)> {
    let here = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    let folder = node.volume("two-platforms")?;
    let layout = Layout::new(&folder)?;
    let mut images = Vec::new();
    for (platform, code) in [("wasip1/wasm", 41), (here, 42)] {
        let (os, architecture) = platform.split_once('/').context("a platform has two parts")?;
        let config = json!({
            "os": os, "architecture": architecture, "config": { "Entrypoint": ["/app.wasm"] },
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let layer = layout.blob(WASM, ends_with(code).as_bytes())?;
        images.push((platform, layout.image(CONFIG, &config, json!([layer]))?));
    }
    let name = "registry.example/two-platforms:1".to_owned();
    layout.finish(&name, layout.index(&images)?)?;
    let archive = folder.with_extension("tar");
    layout.archive(&archive)?;
    node.import_archive(KUBERNETES, &archive)?;
    node.until_known(&name)?;
    let digest = images[1].1["digest"].as_str().context("no digest")?.to_owned();
    Ok((name, digest))
}

#[test]
fn of_an_index_that_image_is_compiled_which_a_pod_runs() -> Result<()> {
    on_each_containerd(|node| {
        let (image, digest) = two_platforms(node)?;
        let done = warmed(node, &image)?;
        assert_eq!(done["digest"], digest.as_str(), "{done}");
        assert_eq!(done["compiled"], true, "{done}");
        let kept = code(node)?;
        assert_eq!(kept.len(), 1);
        let pod = node.run_pod(&Pod::new("index"))?;
        assert_eq!(pod.run(&Container::new("app", &image))?.wait()?.code, 42);
        assert_eq!(code(node)?, kept, "compiled again");
        Ok(())
    })
}

#[test]
fn a_guest_in_the_image_s_files_is_compiled_as_well() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.image("hello")?;
        let unpacked = warm(node, &image)?;
        if unpacked.code != 0 {
            assert!(unpacked.stderr.contains("is not unpacked by the snapshotter"), "{unpacked:?}");
        }
        // kubelet's way to have it unpacked.
        let pod = node.run_pod(&Pod::new("unpacks"))?;
        pod.run(&Container::new("app", &image))?.wait()?;
        let done = warmed(node, &image)?;
        assert_eq!(done["compiled"], Value::Null);
        assert_eq!(left(node)?, HashSet::new());
        Ok(())
    })
}

#[test]
fn what_cannot_run_is_told_as_create_tells_it_and_nothing_is_left() -> Result<()> {
    on_each_containerd(|node| {
        let failed = warm(node, "registry.example/none:1")?;
        assert_eq!(failed.code, 3, "{failed:?}");
        assert!(
            failed.stderr.contains("has no image registry.example/none:1: pull it"),
            "{failed:?}"
        );

        let image = node.image("hello-artifact")?;
        assert_eq!(warmed(node, &image)?["compiled"], true);

        let text = crate::composing::refused(node)?;
        let failed = warm(node, &text)?;
        assert_eq!(failed.code, 1, "{failed:?}");
        assert!(failed.stderr.contains("which several layers export"), "{failed:?}");
        assert_eq!(left(node)?, HashSet::new());
        Ok(())
    })
}

/// Writes a guest that takes long enough to compile for the compilation to be killed.
pub fn large(node: &Node, name: &str, functions: usize) -> Result<String> {
    let file = node.volume("components")?.join("large.wasm");
    fs::write(&file, large::module(name, functions))?;
    packed(node, name, "/large.wasm", &[&file])
}

#[test]
fn what_a_killed_one_leaves_the_next_removes_and_an_interrupted_one_leaves_nothing() -> Result<()> {
    on_each_containerd(|node| {
        let start = |image: &str, signal| -> Result<()> {
            let mut child = Command::new(wasm_image()).args(words(node, image)).spawn()?;
            let is_made = || Ok((!left(node)?.is_empty()).then_some(()));
            wait::until(SOON, "something to be made", is_made)?;
            kill(Pid::from_raw(child.id().try_into()?), signal)?;
            child.wait()?;
            Ok(())
        };
        start(&large(node, "interrupted", 1000)?, Signal::SIGTERM)?;
        assert_eq!(left(node)?, HashSet::new());
        let image = large(node, "killed", 1000)?;
        start(&image, Signal::SIGKILL)?;
        assert_ne!(left(node)?, HashSet::new());
        let done = warm(node, &image)?;
        assert!(done.stderr.contains("removing wasm-image-warm-"), "{done:?}");
        done.success()?;
        assert_eq!(left(node)?, HashSet::new());
        Ok(())
    })
}
