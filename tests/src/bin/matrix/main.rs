//! Tries images that other tools make, in all forms of a guest, on each available containerd. Each image is pulled and
//! run with CRI, `ctr` and dockerd, and judged by `wasm-image inspect`. The program writes `docs/images.md` from the
//! results, and fails if a result is unexpected.
//!
//! [`forms`] is the table of images, [`made`] makes them, [`attempt`] and [`dockerd`] try one, and [`document`] writes
//! the results.
#![forbid(unsafe_code)]

mod attempt;
mod dockerd;
mod document;
mod forms;
mod made;

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tests::containerd::Containerd;
use tests::traces::Traces;
use tests::{Node, interrupt, registry};

use attempt::{Attempt, Outcome};
use dockerd::Dockerd;
use forms::{Expected, Form, release};

/// Name of the registry for the nodes.
const HOST: &str = "registry.tests";

/// A form and its results.
struct Row {
    form: &'static Form,
    made: Result<(), String>,
    /// Results on each containerd.
    attempts: Vec<Attempt>,
    dockerd: Option<Outcome>,
}

/// Expected and actual result for each containerd.
type Compared<'a> = Vec<(Expected, &'a Outcome)>;

impl Row {
    /// Returns the expected and actual results of each way to run the image, for each containerd. dockerd has only one.
    pub fn compared<'a>(&'a self, versions: &[String]) -> [(&'static str, Compared<'a>); 4] {
        let form = self.form;
        let tried = || versions.iter().map(|it| release(it)).zip(&self.attempts);
        [
            ("inspect", tried().map(|(at, it)| (form.inspect[at], &it.inspect)).collect()),
            ("CRI", tried().map(|(at, it)| (form.cri[at], &it.cri)).collect()),
            ("ctr", tried().map(|(at, it)| (form.ctr[at], &it.ctr)).collect()),
            ("dockerd", self.dockerd.iter().map(|it| (form.dockerd, it)).collect()),
        ]
    }
}

fn main() -> ExitCode {
    interrupt::end(run())
}

/// Runs the matrix. With arguments, it only tries the forms whose names begin with one of them, and writes nothing.
fn run() -> Result<()> {
    let wanted: Vec<_> = env::args().skip(1).collect();
    let is_wanted = |form: &&Form| {
        wanted.is_empty() || wanted.iter().any(|it| form.image.starts_with(it.as_str()))
    };
    interrupt::clean_up()?;
    let folder = tempfile::Builder::new().prefix("matrix-").tempdir_in("/tmp")?;
    let name = folder.path().file_name().unwrap_or_default().to_string_lossy();
    interrupt::making().note(&Traces::new(&name, folder.path()));
    let registry = registry::Daemon::start(folder.path())?;
    let make = |form| {
        let made = made::make(folder.path(), &registry.address, form);
        let made = made.map_err(|error| format!("{error:#}"));
        println!("{}: {}", form.image, made.as_ref().err().map_or("made", String::as_str));
        Row { form, made, attempts: Vec::new(), dockerd: None }
    };
    let mut rows: Vec<_> = forms::all().filter(is_wanted).map(make).collect();
    let containerds = Containerd::of_all_releases()?;
    let newest = containerds.last().context("there is no containerd")?.version.clone();
    let mut versions = Vec::new();
    for containerd in containerds {
        versions.push(containerd.version.clone());
        on_node(containerd, &registry, &mut rows, &newest)?;
    }
    if wanted.is_empty() {
        document::write(&versions, &rows)?;
    }
    let surprises = surprises(&versions, &rows);
    surprises.iter().for_each(|it| println!("{it}"));
    match surprises.len() {
        0 => Ok(()),
        count => bail!("{count} outcomes are not as expected"),
    }
}

fn on_node(
    containerd: Containerd,
    registry: &registry::Daemon,
    rows: &mut [Row],
    newest: &str,
) -> Result<()> {
    println!("starting a private containerd {}", containerd.version);
    let has_dockerd = containerd.version == newest;
    let node = Node::start(containerd)?;
    registry.is_taken_for(&node, HOST)?;
    for row in &mut *rows {
        row.attempts.push(attempt::all(&node, &registry.address, row.form, &row.made));
    }
    if has_dockerd {
        println!("starting dockerd on it");
        let dockerd = Dockerd::start(&node)?;
        for row in &mut *rows {
            row.dockerd = Some(dockerd.attempt(&registry.address, row.form, &row.made));
        }
        dockerd.stop()?;
    }
    node.stop()
}

/// Returns the unexpected results, one line each.
fn surprises(versions: &[String], rows: &[Row]) -> Vec<String> {
    let mut found = Vec::new();
    for row in rows {
        for (what, cells) in row.compared(versions) {
            // dockerd only runs on the last containerd.
            let versions = &versions[versions.len() - cells.len()..];
            for ((expected, seen), version) in cells.into_iter().zip(versions) {
                if !seen.is(expected) {
                    let image = row.form.image;
                    found.push(format!(
                        "{image}, {what}, containerd {version}: expected {expected}, seen {seen}"
                    ));
                }
            }
        }
    }
    found
}
