//! Finds panics and crashes in logs of the shim, its children and containerd.

use std::fs;
use std::path::Path;

/// Texts that Rust and Go print when a program ends because of its own fault.
const SIGNS: [&str; 6] = [
    "panicked at",
    "panic: ",
    "fatal error: ",
    "SIGSEGV",
    "stack overflow",
    "memory allocation of",
];

/// Longest part of a line that is printed, in characters.
const READABLE: usize = 400;

/// Returns the lines with such a text in the files below `folder` whose name ends with `.log`.
pub fn below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&path));
        } else if path.extension().is_some_and(|end| end == "log") {
            let text = fs::read(&path).unwrap_or_default();
            let name = entry.file_name().to_string_lossy().into_owned();
            let lines = among(&String::from_utf8_lossy(&text));
            found.extend(lines.into_iter().map(|line| format!("{name}: {line}")));
        }
    }
    found
}

fn among(text: &str) -> Vec<String> {
    let has_sign = |line: &&str| SIGNS.iter().any(|sign| line.contains(sign));
    text.lines().filter(has_sign).map(|line| line.chars().take(READABLE).collect()).collect()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn panics_of_both_languages_are_found_wherever_they_are() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let inner = folder.path().join("logs");
        fs::create_dir(&inner)?;
        let rust = "time stderr F thread 'main' panicked at src/a.rs:1:2:\nnothing else";
        fs::write(inner.join("app-0.log"), rust)?;
        fs::write(folder.path().join("containerd.log"), "level=info\npanic: nil map\n")?;
        fs::write(folder.path().join("other.txt"), "panicked at")?;
        let mut found = below(folder.path());
        found.sort();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("app-0.log: time stderr"), "{found:?}");
        assert_eq!(found[1], "containerd.log: panic: nil map");
        Ok(())
    }
}
