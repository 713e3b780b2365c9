//! `docs/images.md`: what came out, for people.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};
use tests::command;
use tests::containerd::repository;

use crate::attempt::Outcome;
use crate::forms::Expected;
use crate::{Row, Tried};

/// The module that says which versions of the tools in Go these are.
const MODULE: &str = include_str!("../../../images/go.mod");

/// How much of an error that was not expected is shown, in characters.
const SHOWN: usize = 160;

/// Writes the document.
pub fn write(tried: &[Tried], rows: &[Row]) -> Result<()> {
    let text = text(&tools()?, tried, rows)?;
    let file = repository().join("docs/images.md");
    fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

/// Which tools, in words.
fn tools() -> Result<String> {
    let modules = [
        ("oras", "oras.land/oras v"),
        ("crane", "github.com/google/go-containerregistry v"),
        ("regctl", "github.com/regclient/regclient v"),
    ];
    let mut tools = Vec::new();
    for (tool, module) in modules {
        let line = MODULE.lines().find_map(|line| line.trim().strip_prefix(module));
        let version = line.and_then(|rest| rest.split(' ').next());
        tools.push(format!("{tool} {}", version.with_context(|| format!("no {tool} in go.mod"))?));
    }
    for tool in ["skopeo", "buildah", "podman"] {
        let said = command::must(&format!("{tool} --version"));
        let version = said.ok().and_then(|it| it.split_whitespace().nth(2).map(str::to_owned));
        tools.push(format!("{tool} {}", version.as_deref().unwrap_or("(not here)")));
    }
    Ok(tools.join(", "))
}

fn text(tools: &str, tried: &[Tried], rows: &[Row]) -> Result<String> {
    let mut text = HEADER.replace("TOOLS", tools);
    let node =
        |what: &str| tried.iter().map(|it| format!(" {what} {} |", it.version)).collect::<String>();
    let columns = "---|".repeat(3 + 2 * tried.len());
    writeln!(text, "| form | made by | `inspect` |{}{}", node("CRI"), node("`ctr`"))?;
    writeln!(text, "|{columns}")?;
    for row in rows {
        line(&mut text, tried, row)?;
    }
    text.push_str(COMMANDS);
    for Row { form, .. } in rows {
        writeln!(text, "\n{}: {}\n\n```sh\n{}\n```", form.tool, form.form, form.make)?;
    }
    Ok(text)
}

fn line(text: &mut String, tried: &[Tried], row: &Row) -> Result<()> {
    let mut cells: [Vec<String>; 3] = Default::default();
    for (tried, attempt) in tried.iter().zip(&row.attempts) {
        let compared = row.form.compared(tried.major, attempt);
        for (cells, (_, expected, seen)) in cells.iter_mut().zip(compared) {
            cells.push(cell(expected, seen));
        }
    }
    let [inspect, cri, ctr] = cells;
    // The verdict is the same whichever node is beside it.
    let inspect = inspect.into_iter().next();
    let command = if row.form.needs_command { " (with a `command`)" } else { "" };
    let (form, tool) = (row.form.form, row.form.tool);
    let cells: Vec<_> = inspect.into_iter().chain(cri).chain(ctr).collect();
    writeln!(text, "| {form}{command} | {tool} | {} |", cells.join(" | "))?;
    Ok(())
}

fn cell(expected: Expected, seen: &Outcome) -> String {
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
and run as kubelet does (CRI), pulled and run by `ctr`, and what `wasm-image inspect` says before. `make matrix` tries
all of it again and writes this page. A cell says what was expected and seen; where the two differ, it is in bold.

Tried with TOOLS, from a registry on loopback (Debian's docker-registry, which has no list of referrers).

- containerd 1.6 takes no image of wasm layers alone, and its `ctr` none with one: they are counted among those to unpack.
- containerd 2.3 and later unpack no files for a platform of wasm; `wasm-image convert` makes such an image one for the node.
- `ctr` has to be told a platform of wasm (`--platform`), and knows no artifacts.
- Not tried: dockerd, docker's buildx and wkg. What BuildKit writes is made by hand.

";

const COMMANDS: &str = "
## How each was made

`$IMAGE` is the image's repository, `hello.wasm` a module of WASI 0.1 that says the image's name; the tools are told to
speak HTTP.
";
