//! Writes `docs/images.md`, the results for people.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tests::command;
use tests::containerd::repository;

use crate::attempt::Outcome;
use crate::forms::Expected;
use crate::{Compared, Row};

/// Tools in Go, with the module that has their version, and the beginning of its line.
const MODULES: [(&str, &str, &str); 8] = [
    ("oras", include_str!("../../../images/go.mod"), "oras.land/oras v"),
    ("crane", include_str!("../../../images/go.mod"), "github.com/google/go-containerregistry v"),
    ("regctl", include_str!("../../../images/go.mod"), "github.com/regclient/regclient v"),
    ("buildx", include_str!("../../../buildkit/go.mod"), "github.com/docker/buildx v"),
    ("BuildKit", include_str!("../../../buildkit/go.mod"), "github.com/moby/buildkit v"),
    ("cosign", include_str!("../../../cosign/go.mod"), "github.com/sigstore/cosign/v3 v"),
    ("dockerd", include_str!("../../../moby/go.mod"), "github.com/moby/moby/v2 v"),
    ("docker", include_str!("../../../moby/go.mod"), "github.com/docker/cli v"),
];

/// Tools of the distribution.
const PACKAGES: [&str; 3] = ["skopeo", "buildah", "podman"];

/// Longest part of an unexpected error that is shown, in characters.
const SHOWN: usize = 160;

/// Writes the document.
pub fn write(versions: &[String], rows: &[Row]) -> Result<()> {
    let text = text(&tools()?, versions, rows)?;
    let file = repository().join("docs/images.md");
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

/// Returns the tools, with one line for each source.
fn tools() -> Result<String> {
    let mut modules = Vec::new();
    for (tool, module, beginning) in MODULES {
        let line = module.lines().find_map(|line| line.trim().strip_prefix(beginning));
        let version = line.and_then(|rest| rest.split([' ', '+']).next());
        modules
            .push(format!("{tool} {}", version.with_context(|| format!("no {tool} in go.mod"))?));
    }
    let packages = PACKAGES.map(|tool| said(Path::new(tool)));
    let wkg = said(&repository().join("target/tools/wkg/bin/wkg"));
    Ok(format!("- {}\n- {}\n- {wkg}", modules.join(", "), packages.join(", ")))
}

/// Returns the name and version that a program reports.
fn said(program: &Path) -> String {
    let name = program.file_name().unwrap_or_default().display();
    let said = command::run(program, ["--version"]).map(|it| it.stdout).unwrap_or_default();
    // "skopeo version 1.9.3", "buildah version 1.28.2 (…)", "wkg 0.16.1".
    let mut words = said.split_whitespace();
    let version = words.find(|word| word.starts_with(|it: char| it.is_ascii_digit()));
    format!("{name} {}", version.unwrap_or("(not here)"))
}

fn text(tools: &str, versions: &[String], rows: &[Row]) -> Result<String> {
    let mut text = HEADER.replace("TOOLS", tools).replace("VERSIONS", &versions.join(", "));
    writeln!(text, "| form | made by | `inspect` | CRI | `ctr` | dockerd |")?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for row in rows {
        let command = if row.form.needs_command { " (with a `command`)" } else { "" };
        let cells = row.compared(versions).map(|(_, cells)| cell(versions, cells)).join(" | ");
        writeln!(text, "| {}{command} | {} | {cells} |", row.form.form, row.form.tool)?;
    }
    text.push_str(COMMANDS);
    for Row { form, .. } in rows {
        writeln!(text, "\n{}: {}\n\n```sh\n{}\n```", form.tool, form.form, form.make)?;
    }
    Ok(text)
}

/// Returns the result on each containerd. Equal neighbours are combined.
fn cell(versions: &[String], compared: Compared<'_>) -> String {
    let mut parts: Vec<(Vec<&str>, String)> = Vec::new();
    for (version, (expected, seen)) in versions.iter().zip(compared) {
        let said = words(expected, seen);
        match parts.last_mut() {
            Some((versions, before)) if *before == said => versions.push(version),
            _ => parts.push((vec![version], said)),
        }
    }
    match parts.as_slice() {
        [(_, said)] => said.clone(),
        parts => {
            let part = |(versions, said): &(Vec<&str>, String)| {
                let versions: Vec<_> = versions.iter().map(|it| short(it)).collect();
                format!("{}: {said}", versions.join(", "))
            };
            parts.iter().map(part).collect::<Vec<_>>().join("<br>")
        }
    }
}

/// Returns the first two numbers of a version.
fn short(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn words(expected: Expected, seen: &Outcome) -> String {
    match seen.is(expected) {
        true => expected.to_string(),
        false => {
            let seen: String = seen.to_string().replace('|', "\\|").chars().take(SHOWN).collect();
            format!("**{seen}**, expected: {expected}")
        }
    }
}

const HEADER: &str = "\
# Images of other tools

This page shows the images that other tools make from a guest, and what happens to each when it is pulled from a registry and run:
as kubelet does (CRI), by `ctr`, and by `docker run`. It also shows what `wasm-image inspect --containerd` predicts. `make matrix` tries all of
this and writes this page. A cell has the result that was expected and seen. If the two differ, the cell is in bold. If the versions of
containerd differ, the cell has a line for each.

Tried on containerd VERSIONS, with

TOOLS

from a registry on loopback (Debian's docker-registry, which has no list of referrers). dockerd runs on the newest
containerd and keeps its images there. Users should know:

- containerd 1.6 refuses an image whose layers are all wasm, and its `ctr` refuses an image with any wasm layer, because it counts them
  among the layers that it must unpack.
- containerd 2.1 and later take no image of an index for a compatible platform, such as linux/386 on linux/amd64.
- containerd 2.3 and later unpack no files for a platform of wasm. `wasm-image convert` converts such an image into one for the node.
- buildx stores an attestation beside an image, which makes the image an index. CRI takes nothing from an index for wasi/wasm alone.
- `ctr` and `docker` need `--platform` for a platform of wasm. `ctr` does not support artifacts. dockerd runs them, with a
  command.
- containerd before 2.0 does not unpack an image with Docker's media types that is compressed with zstd.
- containerd before 2.0 does not say which of several images with the same config a Pod asks for, such as two artifacts with the
  empty config. If a node has both, neither runs.

";

const COMMANDS: &str = "
## How each was made

`$IMAGE` is the image's repository. `hello.wasm` is a module of WASI 0.1 that prints the image's name. `Dockerfile` contains
`FROM scratch`, `COPY hello.wasm /` and `ENTRYPOINT [\"/hello.wasm\"]`. The tools are configured to use HTTP. `buildctl` and
`buildx` use a BuildKit of their own.
";
