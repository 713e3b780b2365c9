//! One form on one node: judged, pulled and run.

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

/// The command of containers whose image names none.
pub const COMMAND: &str = "/hello.wasm";

/// What became of one attempt.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It said what it should, or `inspect` says that it runs.
    Runs,
    /// The error, or the reason that `inspect` gives.
    Refused(String),
    /// It could not be made: the tool is not here, or refuses.
    NotMade(String),
}

impl Outcome {
    /// Whether it is as expected.
    pub fn is(&self, expected: Expected) -> bool {
        match (self, expected) {
            (Outcome::Runs, Expected::Runs) => true,
            (Outcome::Refused(reason), Expected::Refused(word)) => reason.contains(word),
            _ => false,
        }
    }

    /// That of an attempt.
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

/// What became of a form on a node.
#[derive(Debug)]
pub struct Attempt {
    /// What `wasm-image inspect` says of a node with that containerd.
    pub inspect: Outcome,
    /// Pulled and run as kubelet does.
    pub cri: Outcome,
    /// Pulled and run by `ctr`.
    pub ctr: Outcome,
}

/// Tries an image in each way, or says of each that it was not made.
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

/// Containers of one name would share a log.
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
    // Of images with one config, such as artifacts with an empty one, containerd before 2.0 does not say which is asked for.
    node.cri.remove_image(&image)?;
    ran
}

fn by_ctr(node: &Node, form: &Form, remote: &str) -> Result<()> {
    let platform = form.platform.map(|it| ["--platform", it]);
    let platform = platform.as_ref().map(<[&str; 2]>::as_slice).unwrap_or_default();
    // That of 2 has another unpack what it pulls, for which a platform of wasm is none.
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

/// Whether the container printed its image's name and ended well.
pub fn said(form: &Form, done: &Output) -> Result<()> {
    let Output { code, stdout, stderr, .. } = done;
    ensure!(*code == 0 && stdout == form.image, "exit code {code}: {stdout}{stderr}");
    Ok(())
}
