//! Runs the program under test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// A component that the shim would run: it has the export of the command world, and one import.
pub const COMMAND: &str = r#"(component
    (import "wasi:cli/environment@0.2.3" (instance (export "initial-cwd" (func (result (option string))))))
    (core module $m (func (export "run") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $command (export "run" (func $run)))
    (export "wasi:cli/run@0.2.3" (instance $command)))"#;

/// A component that the shim would not run because of its import.
pub const UNPROVIDED: &str =
    r#"(component (import "acme:db/query@1.0.0" (instance (export "get" (func)))))"#;

/// The output and exit code of the program.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Checks that the program succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// Checks that the program failed with that code, and returns its error, which is one line.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        let lines: Vec<_> = self.stderr.lines().filter(|it| it.starts_with("error: ")).collect();
        assert_eq!(lines.len(), 1, "{self:?}");
        lines[0].to_owned()
    }

    /// Returns the report.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }
}

/// A working directory. It has only the credentials that a test puts there.
pub struct Work {
    pub directory: TempDir,
}

impl Work {
    pub fn new() -> Self {
        let work = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(work.path("tmp")).unwrap();
        work
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file, and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs the program in the directory. The line is split at blanks.
    pub fn run(&self, line: &str) -> Done {
        self.run_with(line, &[])
    }

    /// As [`Work::run`], with environment variables.
    pub fn run_with(&self, line: &str, env: &[(&str, &Path)]) -> Done {
        let output = self.command(line).envs(env.iter().copied()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Done { code, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Returns the command of the program, which gets a minute to end.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["60", env!("CARGO_BIN_EXE_wasm-image")]).args(line.split_whitespace());
        command.current_dir(self.directory.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.directory.path()).env("TMPDIR", self.path("tmp"));
        command
    }

    /// Returns what the program has left in its temporary directory.
    pub fn left(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("tmp")).unwrap();
        entries.map(|it| it.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}
