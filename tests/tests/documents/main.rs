//! The documents: what is generated is current, and what they name is there.
//!
//! `make documents` writes anew what is generated.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod figures;
mod links;
mod picture;
mod settings;

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The variable by which a test writes a generated file in place of comparing it.
const UPDATE: &str = "UPDATE";

/// The top directory of the project.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares a generated file with what it has to be, or writes it.
fn compare(path: &str, generated: &str) {
    let file = root().join(path);
    if env::var_os(UPDATE).is_some() {
        fs::write(&file, generated).unwrap_or_else(|error| panic!("{path}: {error}"));
        return;
    }
    let there = fs::read_to_string(&file).unwrap_or_default();
    assert!(there == generated, "{path} is not current: run `make documents`");
}

/// Files below a directory whose name has that extension, without what is built.
fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(directory).expect("a directory that can be read");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        let name = path.file_name().unwrap_or_default();
        if path.is_symlink() || name == "target" || name == "node_modules" || name == ".git" {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}
