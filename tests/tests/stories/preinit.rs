//! Guests that are initialised once, before they are compiled.

use anyhow::{Context, Result};
use tests::containerd::repository;
use tests::{Container, Pod, RunningPod, on_each_containerd};

use crate::composing::{code, packed};

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
        assert!(text.contains("\"yes\": true or false is expected"), "{text}");
        Ok(())
    })
}
