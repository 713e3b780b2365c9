//! Compares contenders in one run: this project's shim, runc's, the baseline, and the floor.
//!
//! Read in this order:
//! - [`contender`]: the contenders; [`needs`]: what a machine must have; [`effort`]: how much is measured;
//! - one file for each scenario: [`run`], [`pod`], [`churn`], [`http`], [`served`], [`density`], [`gateway`],
//!   [`cache`], [`replicas`], [`interfaces`], and [`trace`], which shows where the time of one start goes. Each
//!   returns its results as a [`report::Section`]. To add a scenario, add a file and a line in [`SCENARIOS`];
//! - [`guest`], [`serving`], [`native`], [`wasmtime_serve`], [`load`], [`task`], [`statistics`]: parts that several
//!   scenarios use;
//! - [`report`]: `docs/benchmarks.md`, its plots, and the same as JSON.
//!
//! Each run is checked, so that a failed run does not count as a fast one.
#![forbid(unsafe_code)]

mod cache;
mod churn;
mod contender;
mod density;
mod effort;
mod gateway;
mod guest;
mod http;
mod interfaces;
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

/// The scenarios, in the order in which they are measured and reported.
const SCENARIOS: [Scenario; 11] = [
    run::SCENARIO,
    pod::SCENARIO,
    churn::SCENARIO,
    http::SCENARIO,
    served::SCENARIO,
    density::SCENARIO,
    gateway::SCENARIO,
    cache::SCENARIO,
    replicas::SCENARIO,
    interfaces::SCENARIO,
    trace::SCENARIO,
];

/// Scenarios that a quick run leaves out unless they are named, because one compiles a whole Python several times and
/// the other starts a cluster.
const SLOW: [&str; 2] = [cache::SCENARIO.name, replicas::SCENARIO.name];

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    interrupt::end(bench(&words))
}

/// Runs the scenarios. Without names it runs all, except [`SLOW`] ones in a quick run. With the word `quick`, it only prints
/// the results and writes no file. It fails at the end if a scenario failed, and the report says so.
fn bench(words: &[String]) -> Result<()> {
    let (quick, names): (Vec<_>, Vec<_>) = words.iter().partition(|word| *word == "quick");
    let bench = Bench::new(if quick.is_empty() { FULL } else { QUICK })?;
    interrupt::clean_up()?;
    let mut report = Report::new(&bench)?;
    let mut failed = Vec::new();
    for scenario in chosen(&names, !quick.is_empty())? {
        println!("{}: {}", scenario.name, scenario.title);
        let since = Instant::now();
        // The failure of one scenario must not lose the measurements of the others.
        let section = (scenario.measure)(&bench).or_else(|error| {
            failed.push(format!("{}: {error:#}", scenario.name));
            Section::not_measured(&scenario, &error)
        })?;
        println!("\n{section}\nIt took {:.0} s.\n", since.elapsed().as_secs_f64());
        report.add(section)?;
    }
    report.print_figures();
    if quick.is_empty() {
        report.write(&SCENARIOS)?;
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
