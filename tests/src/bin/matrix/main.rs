//! Tries images that other tools make, in all forms that a guest comes in, on each containerd there is: pulled and run by
//! CRI, run by `ctr`, and judged by `wasm-image inspect`. Writes `docs/images.md` from what came out, and fails when
//! something is not as expected.
//!
//! [`forms`] is the table of images, [`attempt`] tries one, [`document`] writes.
#![forbid(unsafe_code)]

mod attempt;
mod document;
mod forms;

use std::env;
use std::process::ExitCode;

use anyhow::{Result, bail};
use tests::containerd::Containerd;
use tests::registry::Registry;
use tests::{Node, interrupt};

use attempt::{Attempt, Outcome};
use forms::{FORMS, Form};

/// The registry's name for the nodes.
const HOST: &str = "registry.tests";

/// A form, and what became of it on each containerd.
struct Row {
    form: &'static Form,
    attempts: Vec<Attempt>,
}

/// A containerd that images were tried on.
struct Tried {
    version: String,
    major: u32,
}

fn main() -> ExitCode {
    interrupt::end(run())
}

/// With arguments only the forms whose names begin so are tried, and nothing is written.
fn run() -> Result<()> {
    let wanted: Vec<_> = env::args().skip(1).collect();
    let is_wanted = |form: &&Form| {
        wanted.is_empty() || wanted.iter().any(|it| form.image.starts_with(it.as_str()))
    };
    let forms = FORMS.iter().filter(is_wanted);
    let mut rows: Vec<_> = forms.map(|form| Row { form, attempts: Vec::new() }).collect();
    let mut tried = Vec::new();
    interrupt::clean_up()?;
    for containerd in Containerd::available()? {
        println!("starting a private containerd {}", containerd.version);
        let (version, major) = (containerd.version.clone(), containerd.major);
        let node = Node::start(containerd)?;
        let registry = Registry::start(&node, HOST)?;
        for row in &mut rows {
            let attempt = attempt::all(&node, &registry, row.form)?;
            println!("{}: {attempt}", row.form.image);
            row.attempts.push(attempt);
        }
        drop(registry);
        node.stop()?;
        tried.push(Tried { version, major });
    }
    if wanted.is_empty() {
        document::write(&tried, &rows)?;
    }
    let surprises = surprises(&tried, &rows);
    surprises.iter().for_each(|it| println!("{it}"));
    match surprises.len() {
        0 => Ok(()),
        count => bail!("{count} outcomes are not as expected"),
    }
}

/// What is not as expected, a line each.
fn surprises(tried: &[Tried], rows: &[Row]) -> Vec<String> {
    let mut found = Vec::new();
    for Row { form, attempts } in rows {
        for (tried, attempt) in tried.iter().zip(attempts) {
            for (what, expected, seen) in form.compared(tried.major, attempt) {
                if !seen.is(expected) {
                    let (image, version) = (form.image, &tried.version);
                    found.push(format!(
                        "{image}, {what}, containerd {version}: expected {expected}, seen {seen}"
                    ));
                }
            }
        }
    }
    found
}

impl Form {
    /// What was expected of each attempt on a containerd of that major version, and what was seen.
    fn compared<'a>(
        &self,
        major: u32,
        attempt: &'a Attempt,
    ) -> [(&'static str, forms::Expected, &'a Outcome); 3] {
        let cri = if major == 1 { self.cri_1 } else { self.cri_2 };
        let ctr = if major == 1 { self.ctr_1 } else { self.ctr_2 };
        [
            ("inspect", self.inspect, &attempt.inspect),
            ("CRI", cri, &attempt.cri),
            ("ctr", ctr, &attempt.ctr),
        ]
    }
}
