//! The program under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// A component that the shim would run: the command world's export, and one import.
pub const COMMAND: &str = r#"(component
    (import "wasi:cli/environment@0.2.3" (instance (export "initial-cwd" (func (result (option string))))))
    (core module $m (func (export "run") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $command (export "run" (func $run)))
    (export "wasi:cli/run@0.2.3" (instance $command)))"#;

/// A component that the shim would not run, for what it imports.
pub const UNPROVIDED: &str =
    r#"(component (import "acme:db/query@1.0.0" (instance (export "get" (func)))))"#;

/// What the program printed, and how it ended.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// The output of a run that has to succeed.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// The error of a run that has to fail with that code: one line.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        let lines: Vec<_> = self.stderr.lines().filter(|it| it.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines[0].to_owned()
    }

    /// Its report.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// A folder to work in, with no credentials but those that a test puts there.
pub struct Work {
    pub folder: TempDir,
}

impl Work {
    pub fn new() -> Self {
        let work = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(work.path("tmp")).unwrap();
        work
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs the program in the folder; the line is split at blanks.
    pub fn run(&self, line: &str) -> Done {
        self.run_with(line, &[])
    }

    /// The same with variables of the environment.
    pub fn run_with(&self, line: &str, env: &[(&str, &Path)]) -> Done {
        let output = self.command(line).envs(env.iter().copied()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Done { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// The program, not started yet, with a minute to end.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["60", env!("CARGO_BIN_EXE_wasm-image")]).args(line.split_whitespace());
        command.current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.folder.path()).env("TMPDIR", self.path("tmp"));
        command
    }

    /// What the program has left in its temporary folder.
    pub fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("tmp")).unwrap();
        entries.map(|it| it.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}
