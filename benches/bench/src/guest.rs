//! Makes guests that were never compiled.

use std::fs;

use anyhow::{Context, Result, ensure};
use tests::containerd::repository;
use tests::{Node, command};

/// Name of the section that distinguishes a guest from all others.
const SECTION: &str = "bench-round";

/// Imports into that namespace an image of the sample guest with a new custom section, which has no effect
/// (WebAssembly, "Custom Section"; the component model has the same). Returns its reference.
pub fn unseen(node: &Node, namespace: &str, sample: &str, round: &str) -> Result<String> {
    let guest = repository().join(format!("target/images/{sample}.wasm"));
    let mut bytes = fs::read(&guest).with_context(|| guest.display().to_string())?;
    bytes.extend(custom_section(round)?);
    let folder = node.volume("unseen")?;
    let (wasm, archive) = (folder.join("guest.wasm"), folder.join("guest.tar"));
    fs::write(&wasm, bytes)?;
    let reference = format!("registry.example/unseen/{sample}:{round}");
    let (wasm, output) = (wasm.display().to_string(), archive.display().to_string());
    let words = ["build", "-t", &reference, "-o", &output, &wasm];
    command::run("wasm-image", words.into_iter().chain(["--entrypoint", "guest.wasm"]))?
        .success()?;
    node.import_archive(namespace, &archive)?;
    fs::remove_dir_all(folder)?;
    Ok(reference)
}

/// Makes a section with id 0, its size, and a name with its length. Each size takes one byte.
fn custom_section(round: &str) -> Result<Vec<u8>> {
    let size = 1 + SECTION.len() + round.len();
    ensure!(size < 0x80, "the round's name {round:?} is too long for a section");
    let header = [0, size as u8, SECTION.len() as u8];
    Ok([&header, SECTION.as_bytes(), round.as_bytes()].concat())
}
