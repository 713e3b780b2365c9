//! Runs programs of the node to their end, with a time limit.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Time limit of a program. A restart of k3s takes a while.
const LIMIT: Duration = Duration::from_secs(180);

const INTERVAL: Duration = Duration::from_millis(10);

/// Runs a program that must succeed, and returns its output. The error has its last line.
pub fn output<A: AsRef<OsStr>>(program: &Path, args: &[A]) -> Result<String, String> {
    let mut command = Command::new(program);
    let command =
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = program.display().to_string();
    let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let status = wait(&mut child, &name)?;
    let text = |reader: thread::JoinHandle<Vec<u8>>| {
        String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    match status.success() {
        true => Ok(stdout),
        false => Err(format!("{name}: {}", last_line(&stderr).unwrap_or(&status.to_string()))),
    }
}

/// Runs a shell command that must succeed. Its output is not captured, because it may leave a process that keeps the
/// output open.
pub fn shell(line: &str) -> Result<(), String> {
    let mut child = Command::new("/bin/sh").args(["-c", line]).stdin(Stdio::null()).spawn();
    let child = child.as_mut().map_err(|error| format!("/bin/sh: {error}"))?;
    let status = wait(child, line)?;
    if status.success() { Ok(()) } else { Err(format!("{line:?}: {status}")) }
}

fn wait(child: &mut Child, name: &str) -> Result<ExitStatus, String> {
    let cannot = |error: io::Error| format!("{name}: {error}");
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(cannot)? {
            return Ok(status);
        }
        if start.elapsed() > LIMIT {
            child.kill().map_err(cannot)?;
            child.wait().map_err(cannot)?;
            return Err(format!("{name} did not end within {} s", LIMIT.as_secs()));
        }
        thread::sleep(INTERVAL);
    }
}

/// Reads a pipe to its end, so that a program with much output does not block.
fn drain(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // Output that cannot be read is lost.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn last_line(text: &str) -> Option<&str> {
    text.lines().rev().find(|line| !line.trim().is_empty())
}
