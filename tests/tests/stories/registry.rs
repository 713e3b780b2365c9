//! Images from CI to a Pod: pushed by `wasm-image`, pulled from a registry by containerd's CRI.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::command::{self, Output};
use tests::containerd::{repository, wasm_image};
use tests::registry::Registry;
use tests::{Container, Node, Pod, RunningPod, on_each_containerd};

/// The registry's name for the nodes.
const HOST: &str = "registry.tests";

/// What the greeting guest says.
const GREETING: &str = "hello from wasi\n";

/// How the guest is packed: as a layer of its own, which containerd 1.6 does not unpack, or there as a file.
fn form(node: &Node) -> &'static [&'static str] {
    match unpacks_wasm_layers(node) {
        true => &["HELLO"],
        false => &["--file", "HELLO:/hello.wasm", "--entrypoint", "/hello.wasm"],
    }
}

fn unpacks_wasm_layers(node: &Node) -> bool {
    !node.containerd.version.starts_with("1.6.")
}

/// Builds an image, pushes it, and returns the report.
fn push(registry: &Registry, name: &str, words: &[&str]) -> Result<Value> {
    push_with(registry, name, words, None)
}

fn push_with(
    registry: &Registry,
    name: &str,
    words: &[&str],
    credentials: Option<&str>,
) -> Result<Value> {
    let target = repository().join("target");
    let tag = format!("{}/{name}", registry.address);
    let program = wasm_image().display().to_string();
    let folder = format!("DOCKER_CONFIG={}", credentials.unwrap_or("/nonexistent"));
    let fixed = [
        folder.as_str(),
        &program,
        "build",
        "--tag",
        &tag,
        "--push",
        "--plain-http",
        "--format",
        "json",
    ];
    let hello = target.join("images/hello.wasm").display().to_string();
    let words = words.iter().map(|word| word.replace("HELLO", &hello));
    let done = command::run("env", fixed.iter().map(|it| (*it).to_owned()).chain(words))?;
    Ok(serde_json::from_str(&done.success().with_context(|| format!("push {tag}"))?.stdout)?)
}

/// Pulls as kubelet does, runs the image without a `command` to its end, and returns what it printed.
fn pulled_and_run(
    node: &Node,
    pod: &RunningPod<'_>,
    image: &str,
    login: Option<(&str, &str)>,
) -> Result<String> {
    run(pod, &node.cri.pull(image, login)?)
}

/// Containers of one name would share a log.
static RUNS: AtomicU32 = AtomicU32::new(0);

fn run(pod: &RunningPod<'_>, image: &str) -> Result<String> {
    let container =
        pod.run(&Container::new(&format!("app-{}", RUNS.fetch_add(1, Ordering::Relaxed)), image))?;
    let exit = container.wait()?;
    assert_eq!(exit.code, 0, "{image}: {exit:?}, {:?}", container.logs()?);
    let stdout = container.logs()?.stdout;
    container.remove()?;
    Ok(stdout)
}

#[test]
fn an_image_that_ci_pushed_is_pulled_by_tag_and_by_digest_and_needs_no_command() -> Result<()> {
    on_each_containerd(|node| {
        let registry = Registry::start(node, HOST)?;
        let pushed = push(&registry, "team/app:1", form(node))?;
        let pod = node.run_pod(&Pod::new("pulled"))?;
        let by_tag = pulled_and_run(node, &pod, &format!("{HOST}/team/app:1"), None)?;
        assert_eq!(by_tag, GREETING);

        let digest = pushed["digest"].as_str().context("no digest")?;
        let other = push(&registry, "team/other:1", form(node))?;
        assert_eq!(other["digest"], digest, "the same input gives the same image");
        let by_digest = pulled_and_run(node, &pod, &format!("{HOST}/team/other@{digest}"), None)?;
        assert_eq!(by_digest, GREETING);
        Ok(())
    })
}

#[test]
fn containerd_16_refuses_to_pull_wasm_layers_and_later_ones_run_them() -> Result<()> {
    on_each_containerd(|node| {
        let registry = Registry::start(node, HOST)?;
        push(&registry, "app:1", &["HELLO"])?;
        let pulled = node.cri.pull(&format!("{HOST}/app:1"), None);
        if unpacks_wasm_layers(node) {
            let pod = node.run_pod(&Pod::new("layers"))?;
            assert_eq!(run(&pod, &pulled?)?, GREETING);
        } else {
            let error =
                pulled.err().context("containerd 1.6 has learnt it: README says otherwise")?;
            assert!(format!("{error:#}").contains("mismatched image rootfs"), "{error:#}");
        }
        Ok(())
    })
}

#[test]
fn of_an_index_with_several_platforms_the_node_s_is_pulled() -> Result<()> {
    on_each_containerd(|node| {
        let registry = Registry::start(node, HOST)?;
        let file =
            ["--file", "HELLO:/app.wasm", "--entrypoint", "/app.wasm", "--cmd", "args", "--cmd"];
        let here = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let elsewhere = if here == "amd64" { "arm64" } else { "amd64" };
        let mut entries = Vec::new();
        for (os, architecture) in [("linux", elsewhere), ("linux", here), ("wasip2", "wasm")] {
            let platform = format!("{os}/{architecture}");
            let words = [file.as_slice(), &[&platform, "--platform", &platform]].concat();
            push(&registry, &format!("index:{architecture}"), &words)?;
            let mut entry = described(node, &registry, architecture)?;
            entry["platform"] = json!({ "os": os, "architecture": architecture });
            entries.push(entry);
        }
        put_index(node, &registry, "1", &entries)?;
        let pod = node.run_pod(&Pod::new("index"))?;
        let said = pulled_and_run(node, &pod, &format!("{HOST}/index:1"), None)?;
        assert_eq!(said, format!("linux/{here}\n"));
        Ok(())
    })
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// The descriptor of a tag's manifest.
fn described(node: &Node, registry: &Registry, tag: &str) -> Result<Value> {
    let file = node.volume("manifests")?.join(tag).display().to_string();
    let url = format!("http://{}/v2/index/manifests/{tag}", registry.address);
    let accept = format!("Accept: {MANIFEST}");
    let head = curl(&["--dump-header", "-", "--output", &file, "--header", &accept, &url])?.stdout;
    let digest = head.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: "));
    let digest = digest.context("the registry tells no digest")?.trim();
    Ok(json!({ "mediaType": MANIFEST, "digest": digest, "size": fs::metadata(&file)?.len() }))
}

/// Puts an index, which `wasm-image` makes none of, under a tag.
fn put_index(node: &Node, registry: &Registry, tag: &str, entries: &[Value]) -> Result<()> {
    let file = node.volume("manifests")?.join("index.json");
    let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    fs::write(&file, index.to_string())?;
    let url = format!("http://{}/v2/index/manifests/{tag}", registry.address);
    let (content, file) = (format!("Content-Type: {INDEX}"), file.display().to_string());
    curl(&["--header", &content, "--upload-file", &file, &url]).map(drop)
}

fn curl(words: &[&str]) -> Result<Output> {
    command::run(
        "curl",
        ["--silent", "--show-error", "--fail", "--noproxy", "*"].iter().chain(words),
    )?
    .success()
}

#[test]
fn a_registry_that_wants_a_password_gets_it_from_ci_and_from_the_pod() -> Result<()> {
    on_each_containerd(|node| {
        let registry = Registry::start_with_password(node, HOST)?;
        let folder = node.volume("docker")?;
        // ci:secret
        let auths = json!({ "auths": { registry.address.clone(): { "auth": "Y2k6c2VjcmV0" } } });
        fs::write(folder.join("config.json"), auths.to_string())?;
        let refused =
            push(&registry, "app:1", &["HELLO"]).err().context("pushed without a password")?;
        assert!(format!("{refused:#}").contains("HTTP 401"), "{refused:#}");
        push_with(&registry, "app:1", form(node), folder.to_str())?;

        let image = format!("{HOST}/app:1");
        let refused = node.cri.pull(&image, None).err().context("pulled without a password")?;
        assert!(format!("{refused:#}").to_lowercase().contains("authoriz"), "{refused:#}");
        let pod = node.run_pod(&Pod::new("password"))?;
        assert_eq!(pulled_and_run(node, &pod, &image, Some(("ci", "secret")))?, GREETING);
        Ok(())
    })
}

#[test]
fn always_pulling_follows_a_tag_that_moved() -> Result<()> {
    on_each_containerd(|node| {
        let registry = Registry::start(node, HOST)?;
        let push = |word| {
            push(&registry, "app:latest", &[form(node), &["--cmd", "args", "--cmd", word]].concat())
        };
        let image = format!("{HOST}/app:latest");
        let pod = node.run_pod(&Pod::new("always"))?;
        push("first")?;
        assert_eq!(pulled_and_run(node, &pod, &image, None)?, "first\n");
        push("second")?;
        // What kubelet does without `Always`: the node has an image of that name.
        assert_eq!(run(&pod, &image)?, "first\n");
        assert_eq!(pulled_and_run(node, &pod, &image, None)?, "second\n");
        Ok(())
    })
}
