//! Guests that are initialised once, before they are compiled.

use anyhow::{Context, Result};
use tests::containerd::repository;
use tests::{Container, Node, Pod, RunningPod, on_each_containerd};

use crate::composing::{code, packed, packed_with};
use crate::warming::warmed;

/// The annotation.
const PREINIT: &str = "wasmtime.shim/preinit";

/// What a call of an export prints.
fn answer(pod: &RunningPod<'_>, image: &str, name: &str, call: &[&str]) -> Result<String> {
    let container = pod.run(&Container::new(name, image).command(call))?;
    let exit = container.wait()?;
    let logs = container.logs()?;
    assert_eq!(exit.code, 0, "{logs:?}");
    Ok(logs.stdout)
}

#[test]
fn the_initialisation_runs_once_and_every_container_has_what_it_left() -> Result<()> {
    on_each_containerd(|node| {
        let source = repository().join("images/preinit/primes.wat");
        let image = packed(node, "primes", "/app.wasm#primes", &[&source])?;
        let plain = node.run_pod(&Pod::new("plain"))?;
        assert_eq!(answer(&plain, &image, "plain", &["/app.wasm#primes"])?, "0\n");

        let pod = node.run_pod(&Pod::new("ahead").annotation(PREINIT, "true"))?;
        assert_eq!(answer(&pod, &image, "one", &["/app.wasm#primes"])?, "148933\n");
        let kept = code(node)?;
        assert_eq!(answer(&pod, &image, "two", &["/app.wasm#primes"])?, "148933\n");
        assert_eq!(code(node)?, kept, "compiled again");
        for name in ["three", "four"] {
            assert_eq!(answer(&pod, &image, name, &["/app.wasm#runs"])?, "1\n");
        }
        assert_eq!(answer(&pod, &image, "five", &["/app.wasm#is-prime", "1999993"])?, "true\n");
        // Code of the two kinds is kept side by side.
        assert_eq!(answer(&plain, &image, "again", &["/app.wasm#primes"])?, "0\n");
        Ok(())
    })
}

/// Packs it with a label, as a layer or as a file of the image.
fn labelled(node: &Node, name: &str, value: &str, is_file: bool) -> Result<String> {
    let source = repository().join("images/preinit/primes.wat").display().to_string();
    let label = format!("{PREINIT}={value}");
    let file = format!("{source}:/app.wat");
    let how = if is_file {
        ["--label", &label, "--file", &file, "--entrypoint", "/app.wat#primes"].to_vec()
    } else {
        ["--label", &label, &source, "--entrypoint", "/app.wat#primes"].to_vec()
    };
    packed_with(node, name, &how)
}

#[test]
fn an_image_s_label_asks_for_it_and_the_annotation_decides() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("labelled"))?;
        let other = node.run_pod(&Pod::new("told").annotation(PREINIT, "false"))?;
        for (name, is_file) in [("layer", false), ("file", true)] {
            let image = labelled(node, name, "true", is_file)?;
            assert_eq!(answer(&pod, &image, name, &["/app.wat#primes"])?, "148933\n", "{name}");
            let told = answer(&other, &image, &format!("{name}-plain"), &["/app.wat#primes"])?;
            assert_eq!(told, "0\n", "{name}");
        }
        let image = labelled(node, "mistaken", "yes", true)?;
        let error = pod.run(&Container::new("mistaken", &image)).err().context("was run")?;
        let text = format!("{error:#}");
        assert!(text.contains("image label wasmtime.shim/preinit: \"yes\""), "{text}");
        Ok(())
    })
}

#[test]
fn what_is_warmed_is_what_containers_of_the_image_have() -> Result<()> {
    on_each_containerd(|node| {
        let image = labelled(node, "layer", "true", false)?;
        assert_eq!(warmed(node, &image)?["compiled"], true);
        let kept = code(node)?;
        let pod = node.run_pod(&Pod::new("warm"))?;
        assert_eq!(answer(&pod, &image, "app", &["/app.wat#primes"])?, "148933\n");
        assert_eq!(code(node)?, kept, "compiled again");
        Ok(())
    })
}

#[test]
fn a_guest_that_cannot_be_initialised_ahead_is_refused_with_the_reason() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("ahead").annotation(PREINIT, "true"))?;
        let refusal = |image: &str| -> Result<String> {
            let error = pod.run(&Container::new("app", image)).err().context("was run")?;
            Ok(format!("{error:#}"))
        };
        let text = refusal(&node.image("hello")?)?;
        assert!(text.contains(PREINIT) && text.contains("wizer-initialize"), "{text}");

        let error = node.run_pod(&Pod::new("mistaken").annotation(PREINIT, "yes"));
        let text = format!("{:#}", error.err().context("was run")?);
        assert!(text.contains("\"yes\" is not valid; allowed is true or false"), "{text}");
        Ok(())
    })
}
