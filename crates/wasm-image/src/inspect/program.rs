//! Decides whether the kernel finds a Linux program in an image, as far as the files show.

use std::path::Path;

use anyhow::Result;
use rule::{Entrypoint, Found, Head, Process};

use super::tree::{File, Tree};

/// Magic bytes of a script (execve(2), "Interpreter scripts").
const SCRIPT: &[u8] = b"#!";

/// Shells that run an entrypoint in shell form.
const SHELLS: [&str; 2] = ["/bin/sh", "/bin/bash"];

/// Returns why there is no program of that name.
pub fn missing(process: &Process<'_>, entrypoint: &Entrypoint<'_>) -> String {
    let looked = process.looked(entrypoint);
    match process.args {
        [shell, flag, line, ..] if SHELLS.contains(&shell.as_str()) && flag == "-c" => {
            let words: Vec<_> = line.split_whitespace().map(|word| format!("{word:?}")).collect();
            format!(
                "{looked}, and its entrypoint is in shell form, for {shell} to run: write it as a list, \
                 `ENTRYPOINT [{}]`",
                words.join(", ")
            )
        }
        _ => format!(
            "{looked}, and the image has no wasm layers: its entrypoint is {:?}",
            process.name()
        ),
    }
}

/// Returns why the kernel does not execute an existing program, or `None` if it does.
pub fn reason(tree: &Tree, name: &str, file: &File) -> Result<Option<String>> {
    if !file.is_executable {
        return Ok(Some(format!("{name} is not executable: give it mode 0755")));
    }
    let Some(interpreter) = interpreter(&tree.head(file)?) else { return Ok(None) };
    Ok(match tree.look(Path::new(&interpreter)) {
        Found::File(_) => None,
        _ => Some(format!("{name} is a script for {interpreter}, which the image does not have")),
    })
}

/// Returns the program that runs a script.
fn interpreter(head: &Head) -> Option<String> {
    let line = head.bytes.strip_prefix(SCRIPT)?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    Some(line.split_whitespace().next()?.to_owned())
}
