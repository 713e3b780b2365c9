//! Accesses files, to show that the guest sees its own and no others.

use std::fs;
use std::io;

use crate::{Outcome, say};

/// Copies a file to stdout.
pub fn cat(path: &str) -> Outcome {
    let mut file = fs::File::open(path).map_err(about(path))?;
    io::copy(&mut file, &mut io::stdout()).map_err(about(path))?;
    Ok(())
}

/// Creates or replaces a file with this text and a newline.
pub fn write(path: &str, text: &str) -> Outcome {
    fs::write(path, format!("{text}\n")).map_err(about(path))
}

/// Prints the sorted names in a directory. The name of a directory ends with a slash.
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

/// Renames a file.
pub fn rename(from: &str, to: &str) -> Outcome {
    fs::rename(from, to).map_err(about(from))
}

/// Prints the target of a link.
pub fn read_link(path: &str) -> Outcome {
    let target = fs::read_link(path).map_err(about(path))?;
    say(&format!("{}\n", target.display()))
}

/// Returns the operating system's error with the path.
fn about(path: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{path}: {error}")
}
