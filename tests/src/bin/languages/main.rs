//! Builds a small guest in each language, runs it on the newest available containerd, and compares what works with what
//! its `language.toml` declares. The program writes `docs/languages.md` from the results, and fails if a result is not
//! as declared: also if something works that is declared not to.
//!
//! The guests are in `images/languages`. `scripts/language-tools.sh` installs their tools. [`language`] reads a
//! declaration and builds the guest, [`cases`] runs it, and [`document`] writes the results.
#![forbid(unsafe_code)]

mod cases;
mod document;
mod language;

use std::env;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use tests::containerd::Containerd;
use tests::{Node, interrupt};

use cases::Ran;
use language::{Built, Language};

/// A language and what was seen of it.
struct Row {
    language: Language,
    built: Result<Built, String>,
    ran: Option<Ran>,
}

fn main() -> ExitCode {
    interrupt::end(run())
}

/// Runs the languages. With arguments, it only runs those whose directories are named, and writes nothing.
fn run() -> Result<()> {
    let wanted: Vec<_> = env::args().skip(1).collect();
    interrupt::clean_up()?;
    language::lay_out()?;
    let languages = language::all()?.into_iter();
    let languages = languages.filter(|it| wanted.is_empty() || wanted.contains(&it.directory));
    let build = |language: Language| {
        println!("{}: build", language.directory);
        let built = language.build().map_err(|error| format!("{error:#}").replace('\n', " "));
        Row { language, built, ran: None }
    };
    let mut rows: Vec<_> = languages.map(build).collect();
    let containerd = Containerd::available()?.pop().context("there is no containerd")?;
    let version = containerd.version.clone();
    let node = Node::start(containerd)?;
    for row in &mut rows {
        if let Ok(built) = &row.built {
            println!("{}: run", row.language.directory);
            row.ran = Some(cases::run(&node, &row.language, built));
        }
    }
    node.stop()?;
    if wanted.is_empty() {
        document::write(&version, &rows)?;
    }
    let surprises: Vec<_> = rows.iter().flat_map(surprises).collect();
    surprises.iter().for_each(|it| println!("{it}"));
    match surprises.len() {
        0 => Ok(()),
        count => bail!("{count} outcomes are not as declared"),
    }
}

/// Returns what is not as the language declares it, one line each.
fn surprises(row: &Row) -> Vec<String> {
    let name = &row.language.directory;
    let found = match (&row.built, &row.ran) {
        (Err(error), _) => vec![format!("not built: {error}")],
        (Ok(built), Some(ran)) => [built.surprises.clone(), ran.surprises(&row.language)].concat(),
        (Ok(built), None) => built.surprises.clone(),
    };
    found.into_iter().map(|it| format!("{name}: {it}")).collect()
}
