//! Judges, pulls and runs one form on one node.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, ensure};
use tests::command::{self, Output};
use tests::containerd::wasm_image;
use tests::ctr::Run;
use tests::{Container, Node, Pod};

use crate::HOST;
use crate::forms::{Expected, Form};
use crate::made::last_line;

/// Command of containers whose image names none.
pub const COMMAND: &str = "/hello.wasm";

/// Result of one attempt.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It printed what it should, or `inspect` says that it runs.
    Runs,
    /// The error, or the reason from `inspect`.
    Refused(String),
    /// The image could not be made: the tool is missing or fails.
    NotMade(String),
}

impl Outcome {
    /// Returns whether the result is as expected.
    pub fn is(&self, expected: Expected) -> bool {
        match (self, expected) {
            (Outcome::Runs, Expected::Runs) => true,
            (Outcome::Refused(reason), Expected::Refused(word)) => reason.contains(word),
            _ => false,
        }
    }

    /// Returns the result of an attempt.
    pub fn of(result: Result<()>) -> Self {
        match result {
            Ok(()) => Outcome::Runs,
            Err(error) => Outcome::Refused(format!("{error:#}").replace('\n', " ")),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Runs => f.write_str("runs"),
            Outcome::Refused(reason) => write!(f, "refused: {reason}"),
            Outcome::NotMade(reason) => write!(f, "not made: {reason}"),
        }
    }
}

/// Results of a form on a node.
#[derive(Debug)]
pub struct Attempt {
    /// Answer of `wasm-image inspect` for a node with that containerd.
    pub inspect: Outcome,
    /// Pulled and run as kubelet does.
    pub cri: Outcome,
    /// Pulled and run by `ctr`.
    pub ctr: Outcome,
}

/// Tries an image in each way. If it was not made, each result says so.
pub fn all(node: &Node, registry: &str, form: &Form, made: &Result<(), String>) -> Attempt {
    if let Err(why) = made {
        let not_made = || Outcome::NotMade(why.clone());
        return Attempt { inspect: not_made(), cri: not_made(), ctr: not_made() };
    }
    let remote = format!("{registry}/{}:1", form.image);
    Attempt {
        inspect: Outcome::of(inspect(&remote, &node.containerd.version)),
        cri: Outcome::of(by_cri(node, form)),
        ctr: Outcome::of(by_ctr(node, form, &remote)),
    }
}

fn inspect(remote: &str, containerd: &str) -> Result<()> {
    let words = ["inspect", remote, "--plain-http", "--containerd", containerd];
    let done = command::run(wasm_image(), words)?;
    ensure!(done.code == 0, "{}", last_line(&done.stderr));
    Ok(())
}

/// Number of the run, because containers of the same name would share a log.
static RUNS: AtomicU32 = AtomicU32::new(0);

fn by_cri(node: &Node, form: &Form) -> Result<()> {
    let name = format!("matrix-{}", RUNS.fetch_add(1, Ordering::Relaxed));
    let written = format!("{HOST}/{}:1", form.image);
    let image = node.cri.pull(&written, None)?;
    let pod = node.run_pod(&Pod::new(&name))?;
    let mut container = Container::new("app", &image).written(&written);
    if form.needs_command {
        container = container.command(&[COMMAND]);
    }
    let ran = (|| {
        let container = pod.run(&container)?;
        let exit = container.wait()?;
        let logs = container.logs()?;
        ensure!(exit.code == 0 && logs.stdout == form.image, "exit code {}: {logs:?}", exit.code);
        Ok(())
    })();
    pod.stop()?;
    pod.remove()?;
    // containerd before 2.0 does not say which of several images with one config is requested, such as artifacts with
    // an empty one.
    node.cri.remove_image(&image)?;
    ran
}

fn by_ctr(node: &Node, form: &Form, remote: &str) -> Result<()> {
    let platform = form.platform.map(|it| ["--platform", it]);
    let platform = platform.as_ref().map(<[&str; 2]>::as_slice).unwrap_or_default();
    // By default, `ctr` of containerd 2 has the transfer service unpack what it pulls, and that service does not accept
    // a platform of wasm.
    let local: &[&str] = if node.containerd.major == 1 { &[] } else { &["--local"] };
    let words = [&["images", "pull", "--plain-http"], local, platform, &[remote]].concat();
    let pulled = node.ctr.run("default", &words)?;
    ensure!(pulled.code == 0, "pull: {}", last_line(&pulled.stderr));
    let mut run = Run::new(remote).flags(platform);
    if form.needs_command {
        run = run.command(&[COMMAND]);
    }
    let done = node.ctr.run_container(&run)?;
    said(form, &done)
}

/// Checks that the container printed its image's name and succeeded.
pub fn said(form: &Form, done: &Output) -> Result<()> {
    let Output { code, stdout, stderr, .. } = done;
    ensure!(*code == 0 && stdout == form.image, "exit code {code}: {stdout}{stderr}");
    Ok(())
}
