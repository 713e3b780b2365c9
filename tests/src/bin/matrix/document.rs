//! `docs/images.md`: what came out, for people.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use tests::command;
use tests::containerd::repository;

use crate::attempt::Outcome;
use crate::forms::Expected;
use crate::{Compared, Row};

/// Tools in Go: the module that says which version it is, and the line of that.
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

/// How much of an error that was not expected is shown, in characters.
const SHOWN: usize = 160;

/// Writes the document.
pub fn write(versions: &[String], rows: &[Row]) -> Result<()> {
    let text = text(&tools()?, versions, rows)?;
    let file = repository().join("docs/images.md");
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

/// Which tools, a line for each place that they are from.
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

/// A program and the version that it says it has.
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

/// What came out on each containerd; those in a row that agree are put together.
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

/// The first two numbers of a version.
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

What the tools that people build and move images with make of a guest, and what becomes of it: pulled from a registry
and run as kubelet does (CRI), by `ctr` and by `docker run`, and what `wasm-image inspect --containerd` says before.
`make matrix` tries all of it again and writes this page. A cell says what was expected and seen; where the two differ, it
is in bold. Where the versions of containerd differ, a cell has a line for each.

Tried on containerd VERSIONS, with

TOOLS

from a registry on loopback (Debian's docker-registry, which has no list of referrers). dockerd is on the newest
containerd, and has its images there. What its users have to know:

- containerd 1.6 takes no image of wasm layers alone, and its `ctr` none with one: they are counted among those to unpack.
- containerd 2.1 and later take of an index no image for a lesser platform, such as linux/386 on linux/amd64.
- containerd 2.3 and later unpack no files for a platform of wasm; `wasm-image convert` makes such an image one for the node.
- buildx puts an attestation beside an image, which makes an index of it: of one for wasi/wasm alone, CRI takes nothing.
- `ctr` and `docker` have to be told a platform of wasm (`--platform`). `ctr` knows no artifacts; dockerd runs them, with a
  command.
- Where an image is of Docker's media types, compressed by zstd, containerd before 2.0 does not unpack it.
- Before 2.0, containerd does not say which of two images with one config a Pod asks for, such as two artifacts with the
  empty config: where a node has both, neither is run.

";

const COMMANDS: &str = "
## How each was made

`$IMAGE` is the image's repository, `hello.wasm` a module of WASI 0.1 that says the image's name. `Dockerfile` is `FROM
scratch`, `COPY hello.wasm /`, `ENTRYPOINT [\"/hello.wasm\"]`. The tools are told to speak HTTP; `buildctl` and `buildx`
have a BuildKit of their own.
";
