//! Runs programs of the system, either to their end with a time limit, or in the background.

use std::env;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait::patient;

/// Output and exit code of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code. It is 124 if the program was stopped because it took too long.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Checks that the program succeeded, and returns its output.
    pub fn success(self) -> Result<Self> {
        if self.code != 0 {
            bail!("exit code {}: {}{}", self.code, self.stdout, self.stderr);
        }
        Ok(self)
    }
}

/// Starts a background program in `folder`, without input. Its output is appended to `log`.
pub fn daemon(command: &mut Command, folder: &Path, log: &Path) -> Result<Child> {
    let output = File::options().create(true).append(true).open(log);
    let output = output.with_context(|| log.display().to_string())?;
    // It gets a process group of its own, because ctrl-C is for the program that cleans up.
    let command = command.current_dir(folder).process_group(0);
    let command = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    command.spawn().with_context(|| format!("start {}", command.get_program().display()))
}

/// Returns the path of a program in PATH.
pub fn in_path(name: impl AsRef<Path>) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).map(|directory| directory.join(&name)).find(|it| it.is_file())
}

/// Time limit of a program. `ctr run` may have to compile a guest first.
const LIMIT: Duration = Duration::from_secs(90);

/// Runs `program` with `args` and without input, and waits for its end.
pub fn run<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
) -> Result<Output> {
    run_and_feed(program, args, drop)
}

/// As [`run`], with a time limit.
pub fn run_within<A: AsRef<OsStr>>(
    limit: Duration,
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
) -> Result<Output> {
    feed_within(limit, program, args, drop)
}

/// As [`run`], with input. `feed` gets the pipe from which the program reads.
pub fn run_and_feed<A: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
    feed: impl FnOnce(ChildStdin),
) -> Result<Output> {
    feed_within(patient(LIMIT), program, args, feed)
}

fn feed_within<A: AsRef<OsStr>>(
    limit: Duration,
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = A>,
    feed: impl FnOnce(ChildStdin),
) -> Result<Output> {
    let program = program.as_ref();
    let mut child = Command::new("timeout")
        .args(["--kill-after=5", &limit.as_secs().to_string()])
        .arg(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    feed(child.stdin.take().context("the program has no input")?);
    let output = child.wait_with_output().with_context(|| format!("wait for {program:?}"))?;
    Ok(Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a program that must succeed, given as one line of words, and returns its output.
pub fn must(line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().context("an empty command line")?;
    let output = run(program, words).and_then(Output::success);
    Ok(output.with_context(|| line.to_owned())?.stdout)
}
