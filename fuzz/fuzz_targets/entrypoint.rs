//! Looks for an entrypoint through links. Whatever the links are, only files inside the root may be found.
#![no_main]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a target reports"
)]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::OnceLock;

use image::Root;
use libfuzzer_sys::fuzz_target;
use rule::Found;
use tempfile::TempDir;

/// The content of every file outside the root.
const OUTSIDE: &[u8] = b"outside";

/// Names in links and paths. There are few, so that they collide.
const NAMES: [&str; 8] = ["a", "b", "c", "..", ".", "/", "app.wasm", "outside"];

/// Limits for the number of links, and of names in one path. More would only take longer.
const LINKS: usize = 8;
const PATH_NAMES: usize = 6;

/// Returns a directory with the root in it, and with files that no path may reach.
fn base() -> &'static TempDir {
    static BASE: OnceLock<TempDir> = OnceLock::new();
    BASE.get_or_init(|| {
        let base = tempfile::tempdir().expect("a temporary directory");
        for name in ["app.wasm", "outside", "a", "b", "c"] {
            fs::write(base.path().join(name), OUTSIDE).expect("written");
        }
        base
    })
}

/// Reads a path: a length and its names, one byte each.
fn path(bytes: &mut impl Iterator<Item = u8>) -> Option<PathBuf> {
    let length = usize::from(bytes.next()?) % PATH_NAMES + 1;
    let names = bytes.take(length).map(|byte| NAMES[usize::from(byte) % NAMES.len()]);
    Some(names.collect())
}

fuzz_target!(|bytes: &[u8]| {
    let root = base().path().join("root");
    let _ = fs::remove_dir_all(&root);
    for directory in ["a", "b/c"] {
        fs::create_dir_all(root.join(directory)).expect("made");
    }
    fs::write(root.join("app.wasm"), "inside").expect("written");
    let mut bytes = bytes.iter().copied();
    let Some(looked_for) = path(&mut bytes) else { return };
    for _ in 0..LINKS {
        let Some(at) = bytes.next() else { break };
        let Some(target) = path(&mut bytes) else { break };
        let at = ["l", "a/l", "b/c/l", "a/app.wasm", "b/a", "c"][usize::from(at) % 6];
        let _ = symlink(target, root.join(at));
    }
    for name in ["", "l", "a/l", "b/c/l", "c"] {
        let path = PathBuf::from("/").join(name).join(&looked_for);
        let found = Root::new(root.clone(), &[]).and_then(|root| root.look(&path));
        if let Ok(Found::File(mut file)) = found {
            assert_ne!(content(&mut file), OUTSIDE, "{name} {}", looked_for.display());
        }
    }
});

fn content(file: &mut File) -> Vec<u8> {
    let mut content = Vec::new();
    file.read_to_end(&mut content).expect("read");
    content
}
