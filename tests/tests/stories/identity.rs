//! Images that CRI cannot distinguish, because their configurations are the same: a Pod runs the one that it names, or none.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tests::command;
use tests::containerd::wasm_image;
use tests::layout::{CONFIG, EMPTY, Layout, WASM};
use tests::registry::Registry;
use tests::{Container, Node, Pod, RunningPod, on_each_containerd};

/// Two containers of one name cannot be in a Pod.
static RUNS: AtomicU32 = AtomicU32::new(0);

/// The registry's name for the nodes.
const HOST: &str = "registry.tests";

/// A guest that ends with that code, in its text form.
pub fn ends_with(code: u8) -> String {
    format!(
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const {code}))))"#
    )
}

/// As tools write it that know nothing of wasm layers: the config does not change with the layer.
fn config() -> Value {
    json!({
        "architecture": "wasm", "os": "wasip1", "config": { "Entrypoint": ["/app.wasm"] },
        "rootfs": { "type": "layers", "diff_ids": [] },
    })
}

/// Two versions of an image, which end with 41 and 42, on the node; the digest of the second.
fn two_versions(node: &Node, config_type: &str, config: &Value) -> Result<String> {
    let registry = Registry::start(node, HOST)?;
    put(node, &registry, "1", config_type, config, &ends_with(41))?;
    put(node, &registry, "2", config_type, config, &ends_with(42))
}

/// Has the node get an image of that guest under that tag, and returns its digest.
fn put(
    node: &Node,
    registry: &Registry,
    tag: &str,
    config_type: &str,
    config: &Value,
    guest: &str,
) -> Result<String> {
    let folder = node.volume(&format!("image-{}", RUNS.fetch_add(1, Ordering::Relaxed)))?;
    let layout = Layout::new(&folder)?;
    let layer = layout.blob(WASM, guest.as_bytes())?;
    let image = layout.image(config_type, config, json!([layer]))?;
    let digest = image["digest"].as_str().context("no digest")?.to_owned();
    let name = format!("{HOST}/app:{tag}");
    layout.finish(&name, image)?;
    if takes_no_wasm_layers(node) {
        let archive = folder.with_extension("tar");
        layout.archive(&archive)?;
        node.import_archive("k8s.io", &archive)?;
        node.until_known(&name)?;
    } else {
        push(&folder.display().to_string(), &format!("{}/app:{tag}", registry.address))?;
        node.cri.pull(&name, None)?;
    }
    Ok(digest)
}

/// containerd 1.6 pulls no wasm layers, but runs those that were imported.
fn takes_no_wasm_layers(node: &Node) -> bool {
    node.containerd.version.starts_with("1.6.")
}

fn push(folder: &str, name: &str) -> Result<()> {
    let words = ["push", folder, name, "--plain-http"];
    command::run(wasm_image(), words)?.success().map(drop)
}

/// The exit code of a container whose Pod's author wrote that image, as kubelet puts it to CRI.
fn exit_code(node: &Node, pod: &RunningPod<'_>, written: &str) -> Result<i32> {
    let id = node.cri.image_id(written)?.with_context(|| format!("the node has no {written}"))?;
    let name = format!("app-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let container = Container::new(&name, &id).command(&["/app.wasm"]).written(written);
    let container = pod.run(&container)?;
    let code = container.wait()?.code;
    container.remove()?;
    Ok(code)
}

fn runs_what_is_named(config_type: &str, config: &Value) -> Result<()> {
    on_each_containerd(|node| {
        let second = two_versions(node, config_type, config)?;
        let pod = node.run_pod(&Pod::new("named"))?;
        let [first_tag, second_tag] = ["1", "2"].map(|it| format!("{HOST}/app:{it}"));
        assert_eq!(node.cri.image_id(&first_tag)?, node.cri.image_id(&second_tag)?, "one to CRI");
        if node.containerd.major == 1 {
            // This version does not pass the name, so the first image is used for either.
            return is_refused(node, &pod, &[&first_tag, &second_tag]);
        }
        assert_eq!(exit_code(node, &pod, &second_tag)?, 42);
        assert_eq!(exit_code(node, &pod, &first_tag)?, 41);
        assert_eq!(exit_code(node, &pod, &format!("{HOST}/app@{second}"))?, 42);
        assert_eq!(
            exit_code(node, &pod, &format!("{first_tag}@{second}"))?,
            42,
            "the digest counts"
        );
        Ok(())
    })
}

fn is_refused(node: &Node, pod: &RunningPod<'_>, images: &[&String]) -> Result<()> {
    for written in images {
        let refused = match exit_code(node, pod, written) {
            Ok(code) => bail!("{written} was run, and ended with {code}"),
            Err(error) => format!("{error:#}"),
        };
        assert!(refused.contains("cannot tell which image the Pod asks for"), "{refused}");
        assert!(images.iter().all(|it| refused.contains(it.as_str())), "{refused}");
    }
    Ok(())
}

#[test]
fn of_two_images_with_one_config_a_pod_runs_the_one_it_names_or_none() -> Result<()> {
    runs_what_is_named(CONFIG, &config())
}

#[test]
fn of_two_artifacts_with_the_empty_config_a_pod_runs_the_one_it_names_or_none() -> Result<()> {
    runs_what_is_named(EMPTY, &json!({}))
}

/// A component that runs for good, and says its version where that is asked for.
fn version(number: u32) -> String {
    format!(
        r#"(component
            (core module $m
                (func (export "run") (result i32) (loop $again (br $again)) unreachable)
                (func (export "version") (result i32) i32.const {number}))
            (core instance $i (instantiate $m))
            (func (export "version") (result u32) (canon lift (core func $i "version")))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $command (export "run" (func $run)))
            (export "wasi:cli/run@0.2.3" (instance $command)))"#
    )
}

#[test]
fn an_export_is_called_of_the_guest_that_runs_though_its_tag_was_moved() -> Result<()> {
    on_each_containerd(|node| {
        let registry = Registry::start(node, HOST)?;
        put(node, &registry, "latest", CONFIG, &config(), &version(1))?;
        let pod = node.run_pod(&Pod::new("moved"))?;
        let image = format!("{HOST}/app:latest");
        let id = node.cri.image_id(&image)?.context("the node has no image")?;
        let running = pod.run(&Container::new("running", &id).written(&image))?;
        put(node, &registry, "latest", CONFIG, &config(), &version(2))?;
        assert_eq!(node.cri.image_id(&image)?.as_deref(), Some(id.as_str()), "one to CRI");
        assert_eq!(running.exec(&["#version"])?.success()?.stdout.trim(), "1");
        Ok(())
    })
}
