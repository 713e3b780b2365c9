//! Tests the installer on configurations of each distribution and version.
//!
//! `tests/golden/NAME` has a node's files in `root`, its `containerd-version`, further `args` if any, and the expected
//! output of `install --dry-run`: `expected.diff`, or `expected.error` if it is refused. The files have the form that
//! the distributions document or generate. With `NODE_INSTALLER_GOLDEN=write`, the test rewrites the expectations; read
//! them before you commit.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

const WRITE: &str = "NODE_INSTALLER_GOLDEN";

/// A program that reports to be the shim.
const SHIM: &str = "#!/bin/sh\necho containerd-shim-wasmtime-v1 0.1.0\n";

/// Files and directories with their modes.
type Files = BTreeMap<PathBuf, (u32, Option<Vec<u8>>)>;

struct Case {
    dir: PathBuf,
    scratch: TempDir,
}

impl Case {
    fn new(dir: PathBuf) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let shim = scratch.path().join("containerd-shim-wasmtime-v1");
        fs::write(&shim, SHIM).unwrap();
        fs::set_permissions(&shim, Permissions::from_mode(0o755)).unwrap();
        let case = Self { dir, scratch };
        copy(&case.dir.join("root"), &case.root());
        // Every machine has this directory.
        fs::create_dir_all(case.root().join("var/lib")).unwrap();
        case
    }

    fn all() -> Vec<Self> {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let mut dirs: Vec<_> = fs::read_dir(golden).unwrap().map(|it| it.unwrap().path()).collect();
        dirs.sort();
        assert!(dirs.len() > 40, "{dirs:?}");
        dirs.into_iter().map(Self::new).collect()
    }

    fn name(&self) -> String {
        self.dir.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn root(&self) -> PathBuf {
        self.scratch.path().join("root")
    }

    fn is_refused(&self) -> bool {
        self.dir.join("expected.error").exists()
    }

    fn run(&self, words: &[&str]) -> Output {
        let version = fs::read_to_string(self.dir.join("containerd-version")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_node-installer"));
        command.args(words).arg("--root").arg(self.root());
        command.args(["--containerd-version", version.trim()]).output().unwrap()
    }

    fn install(&self, words: &[&str]) -> Output {
        let shim = self.scratch.path().join("containerd-shim-wasmtime-v1").display().to_string();
        let args = fs::read_to_string(self.dir.join("args")).unwrap_or_default();
        let args: Vec<_> = args.split_whitespace().collect();
        self.run(&[&["install", "--shim", &shim], args.as_slice(), words].concat())
    }

    fn must(&self, output: Output) -> String {
        let name = self.name();
        assert_eq!(output.status.code(), Some(0), "{name}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Returns all files and directories with their modes.
    fn files(&self) -> Files {
        let mut found = BTreeMap::new();
        collect(&self.root(), &mut found);
        found
    }
}

fn collect(dir: &Path, found: &mut Files) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.symlink_metadata().unwrap();
        let bytes = metadata.is_file().then(|| fs::read(&path).unwrap());
        found.insert(path.clone(), (metadata.permissions().mode(), bytes));
        if metadata.is_dir() {
            collect(&path, found);
        }
    }
}

/// Describes the files that differ.
fn difference(left: &Files, right: &Files) -> String {
    let paths: BTreeSet<_> = left.keys().chain(right.keys()).collect();
    let others: Vec<_> = paths.into_iter().filter(|it| left.get(*it) != right.get(*it)).collect();
    let line = |path: &&PathBuf| {
        let text = |files: &Files| {
            files.get(*path).map(|(mode, bytes)| {
                format!("{mode:o} {}", text(bytes.as_deref().unwrap_or_default()))
            })
        };
        format!("{}: {:?} {:?}\n", path.display(), text(left), text(right))
    };
    others.iter().map(line).collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn each_configuration_is_changed_as_expected_and_the_dry_run_changes_nothing() {
    let mut wrong = Vec::new();
    for case in Case::all() {
        let before = case.files();
        let output = case.install(&["--dry-run"]);
        assert_eq!(case.files(), before, "{} was changed", case.name());
        let code = output.status.code().unwrap();
        let (file, printed) = match code {
            0 => ("expected.diff", text(&output.stdout)),
            code => ("expected.error", format!("exit code {code}\n{}", text(&output.stderr))),
        };
        let path = case.dir.join(file);
        if std::env::var(WRITE).is_ok_and(|it| it == "write") {
            for name in ["expected.diff", "expected.error"] {
                let _ = fs::remove_file(case.dir.join(name));
            }
            fs::write(&path, &printed).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        if expected != printed {
            wrong.push(format!("{}: expected\n{expected}\nand it is\n{printed}", case.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_second_installation_changes_nothing_and_uninstall_restores_byte_for_byte() {
    for case in Case::all().into_iter().filter(|case| !case.is_refused()) {
        let before = case.files();
        case.must(case.install(&[]));
        let installed = case.files();
        assert_ne!(installed, before, "{}", case.name());
        let again = case.must(case.install(&[]));
        assert!(again.contains("there is nothing to do"), "{}: {again}", case.name());
        assert_eq!(case.files(), installed, "{}", case.name());
        assert_eq!(case.must(case.install(&["--dry-run"])), "", "{}", case.name());
        case.must(case.run(&["uninstall"]));
        assert_eq!(difference(&case.files(), &before), "", "{}", case.name());
        assert_eq!(case.must(case.run(&["uninstall"])), "nothing is installed\n");
    }
}

#[test]
fn what_is_refused_changes_nothing() {
    for case in Case::all().into_iter().filter(Case::is_refused) {
        let before = case.files();
        assert_ne!(case.install(&[]).status.code(), Some(0), "{}", case.name());
        case.must(case.run(&["uninstall"]));
        assert!(case.files() == before, "{} was changed", case.name());
    }
}
