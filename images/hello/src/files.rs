//! Files: whether the guest sees those it was given, and no others.

use std::fs;
use std::io;

use crate::{Outcome, say};

/// Copies a file to stdout.
pub fn cat(path: &str) -> Outcome {
    let mut file = fs::File::open(path).map_err(about(path))?;
    io::copy(&mut file, &mut io::stdout()).map_err(about(path))?;
    Ok(())
}

/// Makes a file with this text and a newline, or replaces it.
pub fn write(path: &str, text: &str) -> Outcome {
    fs::write(path, format!("{text}\n")).map_err(about(path))
}

/// Prints the names in a folder, sorted; a folder's name ends with a slash.
pub fn list(path: &str) -> Outcome {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(about(path))? {
        let entry = entry.map_err(about(path))?;
        let slash = if entry.path().is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}\n", entry.file_name().to_string_lossy()));
    }
    names.sort();
    say(&names.concat())
}

/// Gives a file another name.
pub fn rename(from: &str, to: &str) -> Outcome {
    fs::rename(from, to).map_err(about(from))
}

/// Prints what a link says.
pub fn read_link(path: &str) -> Outcome {
    let target = fs::read_link(path).map_err(about(path))?;
    say(&format!("{}\n", target.display()))
}

/// The operating system's error with the path it is about.
fn about(path: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{path}: {error}")
}
