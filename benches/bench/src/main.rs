//! Contenders side by side, in one run: this project's shim, runc's, the peer, and the floor.
//!
//! To read in this order:
//! - [`contender`]: who takes part; [`needs`]: what a machine must have; [`effort`]: how much is measured;
//! - a file for each scenario: [`run`], [`pod`], [`churn`], [`http`], [`served`], [`density`], [`gateway`], [`cache`],
//!   [`replicas`], and [`trace`], where the time of one start goes; each says in a [`report::Section`] what it found.
//!   Another one is a file and a line in [`SCENARIOS`];
//! - [`guest`], [`serving`], [`native`], [`wasmtime_serve`], [`load`], [`task`], [`statistics`]: what several of them use;
//! - [`report`]: `docs/benchmarks.md`, its plots, and the same as JSON.
//!
//! What is run is checked every time; a run that failed is no fast one.
#![forbid(unsafe_code)]

mod cache;
mod churn;
mod contender;
mod density;
mod effort;
mod gateway;
mod guest;
mod http;
mod load;
mod native;
mod needs;
mod pod;
mod replicas;
mod report;
mod run;
mod served;
mod serving;
mod statistics;
mod task;
mod trace;
mod wasmtime_serve;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use tests::interrupt;

use crate::effort::{Bench, FULL, QUICK};
use crate::report::{Report, Scenario, Section};

/// In the order in which they are measured and reported.
const SCENARIOS: [Scenario; 10] = [
    run::SCENARIO,
    pod::SCENARIO,
    churn::SCENARIO,
    http::SCENARIO,
    served::SCENARIO,
    density::SCENARIO,
    gateway::SCENARIO,
    cache::SCENARIO,
    replicas::SCENARIO,
    trace::SCENARIO,
];

/// Left out of a quick run that names none: a whole Python is compiled several times, a cluster started.
const SLOW: [&str; 2] = [cache::SCENARIO.name, replicas::SCENARIO.name];

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    interrupt::end(bench(&words))
}

/// Without names all scenarios, but for [`SLOW`] ones in a quick run; with the word `quick` or names nothing is written,
/// but printed alone. Fails in the end where one of them has; what is reported says so.
fn bench(words: &[String]) -> Result<()> {
    let (quick, names): (Vec<_>, Vec<_>) = words.iter().partition(|word| *word == "quick");
    let bench = Bench::new(if quick.is_empty() { FULL } else { QUICK })?;
    interrupt::clean_up()?;
    let mut report = Report::new(&bench)?;
    let mut failed = Vec::new();
    for scenario in chosen(&names, !quick.is_empty())? {
        println!("{}: {}", scenario.name, scenario.title);
        let since = Instant::now();
        // What one fails at is no reason to lose what the others have measured.
        let section = (scenario.measure)(&bench).or_else(|error| {
            failed.push(format!("{}: {error:#}", scenario.name));
            Section::not_measured(&scenario, &error)
        })?;
        println!("\n{section}\nIt took {:.0} s.\n", since.elapsed().as_secs_f64());
        report.sections.push(section);
    }
    report.print_figures();
    if words.is_empty() {
        report.write()?;
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn chosen(names: &[&String], quick: bool) -> Result<Vec<Scenario>> {
    let known: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("no scenario {name}; usage: bench [quick] [{}]", known.join(" | "));
    }
    let is_chosen = |it: &Scenario| match names {
        [] => !(quick && SLOW.contains(&it.name)),
        names => names.iter().any(|name| *name == it.name),
    };
    Ok(SCENARIOS.into_iter().filter(is_chosen).collect())
}
