//! Writes `docs/languages.md`, the results for people.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};
use tests::containerd::repository;

use crate::Row;
use crate::cases::{CASES, Ran};
use crate::language::Language;

/// Writes the document.
pub fn write(containerd: &str, rows: &[Row]) -> Result<()> {
    let file = repository().join("docs/languages.md");
    fs::write(&file, text(containerd, rows)?).with_context(|| format!("write {}", file.display()))
}

fn text(containerd: &str, rows: &[Row]) -> Result<String> {
    let mut text = HEADER.replace("CONTAINERD", containerd);
    let titles = CASES.map(|(_, title)| title).join(" | ");
    writeln!(text, "| language | {titles} |")?;
    writeln!(text, "|---|{}", "---|".repeat(CASES.len()))?;
    for row in rows {
        let cells = CASES.map(|(case, _)| cell(row, case)).join(" | ");
        writeln!(text, "| [{}](#{}) | {cells} |", row.language.name, anchor(&row.language.name))?;
    }
    for row in rows {
        section(&mut text, row)?;
    }
    Ok(text)
}

/// Returns the anchor of a title, as Markdown makes it.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|it| it.is_alphanumeric() || *it == ' ' || *it == '-');
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Returns what a case did. A result that is not as declared is in bold.
fn cell(row: &Row, case: &str) -> String {
    let language = &row.language;
    let fails = language.fails.contains_key(case);
    let result = match &row.ran {
        None => return "**not built**".to_owned(),
        Some(Ran::Refused(Ok(()))) => return "no".to_owned(),
        Some(Ran::Refused(Err(_))) => return "**no**".to_owned(),
        Some(Ran::Cases(results)) => {
            CASES.iter().zip(results).find(|((name, _), _)| *name == case).map(|(_, it)| it)
        }
    };
    match (result, fails) {
        (Some(Ok(())), false) => works(language, case),
        (Some(Ok(())), true) => "**yes**".to_owned(),
        (_, true) => "no".to_owned(),
        (_, false) => "**no**".to_owned(),
    }
}

fn works(language: &Language, case: &str) -> String {
    match language.panic {
        Some(code) if case == "panic" => format!("yes, exit code {code}"),
        _ => "yes".to_owned(),
    }
}

fn section(text: &mut String, row: &Row) -> Result<()> {
    let language = &row.language;
    let toolchain = row.built.as_ref().map_or(&language.toolchain, |it| &it.toolchain);
    writeln!(text, "\n## {}\n\n{toolchain}. Built by", language.name)?;
    writeln!(text, "\n```sh\n{}\n```", language.build.trim())?;
    let refused = language.refused.iter().map(|it| format!("anything: {}", it.why));
    let fails = CASES
        .iter()
        .filter_map(|(case, title)| language.fails.get(*case).map(|why| format!("{title}: {why}")));
    let limits = language.limits.iter().map(|it| it.why.clone());
    list(text, "What does not work, and why", refused.chain(fails).chain(limits))?;
    list(text, "To know", language.notes.iter().cloned())
}

/// Writes a list with its title, if it has any items.
fn list(text: &mut String, title: &str, items: impl Iterator<Item = String>) -> Result<()> {
    for (index, item) in items.enumerate() {
        if index == 0 {
            writeln!(text, "\n{title}:\n")?;
        }
        writeln!(text, "- {item}")?;
    }
    Ok(())
}

const HEADER: &str = "\
# Languages

This page shows what works in a guest in each language. `make languages` builds one small guest in each, from
`images/languages`, runs it on containerd CONTAINERD, and writes this page. For each language, it has the toolchain, the commands
that build the guest, and the reason for what does not work. The reasons are beside the guests' sources. If
something works that is declared not to work, or the other way round, `make languages` fails, and the cell is in bold.

| column | what is tried |
|---|---|
| arguments | `args` of the container, with spaces and characters outside of ASCII |
| environment | `env` of the container |
| files | a file in a volume is written, and read again, by its absolute path; the directory is listed |
| clock | the time of day |
| exit code | the guest ends itself with exit code 7 |
| stdin | the input is copied to the output |
| uncaught error | its text is on standard error, and the exit code is not 0 |
| `workingDir` | a file in a volume is read by its relative path; `workingDir` is the volume |
| HTTP | a guest of `wasi:http` answers a request; it is another guest, one of the [samples](../images/README.md) |

";
