//! Links of the documents, and the files that they name.

use std::fs;
use std::path::Path;

use super::{files, root};

/// What the path of a file of this project begins with, if a document names it as code.
const PLACES: [&str; 10] = [
    "benches/",
    "charts/",
    "crates/",
    "docs/",
    "findings/",
    "fuzz/",
    "images/",
    "manifests/",
    "scripts/",
    "tests/",
];

#[test]
fn each_link_leads_to_a_file_and_a_heading_that_are_there() {
    let documents = files(&root(), "md");
    assert!(documents.len() >= 10, "{documents:?}");
    let mut wrong = Vec::new();
    for document in &documents {
        let text = fs::read_to_string(document).expect("a document");
        for target in links(&text) {
            if let Err(reason) = follow(document, target) {
                wrong.push(format!("{}: [{target}]: {reason}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_file_that_a_document_names_is_there() {
    let mut wrong = Vec::new();
    for document in files(&root(), "md") {
        let text = fs::read_to_string(&document).expect("a document");
        let named = prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2));
        for path in named.flat_map(alternatives).filter(|path| is_of_project(path)) {
            if !root().join(&path).exists() {
                wrong.push(format!("{}: `{path}`", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_noticed() {
    let readme = root().join("README.md");
    assert_eq!(links("see [a](x.md), ![b](y.svg#z)\n\n    [c](no.md)").count(), 2);
    for (target, part) in [("docs/nowhere.md", "no such file"), ("README.md#nowhere", "heading")] {
        let reason = follow(&readme, target).expect_err("leads nowhere");
        assert!(reason.contains(part), "{reason}");
    }
    follow(&readme, "docs/settings.md#settings").expect("is there");
    assert_eq!(alternatives("tests/{a,b}.rs"), ["tests/a.rs", "tests/b.rs"]);
}

/// Targets of a text's links, without those to other sites.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = prose(text).flat_map(|line| line.split("](").skip(1));
    let targets = targets.filter_map(|rest| Some(rest.split_once(')')?.0));
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
}

/// Lines that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_fenced = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        !is_fenced && !is_fence && !line.starts_with("    ")
    })
}

fn follow(document: &Path, target: &str) -> Result<(), String> {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let directory = document.parent().expect("a directory");
    let file = if path.is_empty() { document.to_owned() } else { directory.join(path) };
    if !file.exists() {
        return Err(format!("no such file {}", file.display()));
    }
    let has_heading = || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        prose(&text).any(|line| line.starts_with('#') && anchor(line) == heading)
    };
    if heading.is_empty() || has_heading() { Ok(()) } else { Err(format!("no heading {heading}")) }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|it| it.is_alphanumeric() || [' ', '-', '_'].contains(it));
    kept.map(|it| if it == ' ' { '-' } else { it }).collect()
}

/// A path with braces as the shell expands the first of them.
fn alternatives(path: &str) -> Vec<String> {
    let parts =
        path.split_once('{').and_then(|(before, rest)| Some((before, rest.split_once('}')?)));
    let Some((before, (inner, after))) = parts else { return vec![path.to_owned()] };
    inner.split(',').map(|part| format!("{before}{part}{after}")).collect()
}

fn is_of_project(path: &str) -> bool {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "_./-".contains(it);
    PLACES.iter().any(|place| path.starts_with(place)) && path.chars().all(is_plain)
}
