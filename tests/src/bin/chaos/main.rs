//! Runs many Pods on private containerds while it kills or stops processes, fills up the disk and deletes images. It
//! checks that nevertheless:
//!
//! - every Pod can be removed, within a bounded time;
//! - a reported exit code is correct, and does not change;
//! - a Pod without harm has no failed call;
//! - every call returns;
//! - nothing is left on the machine, and no log has a panic.
//!
//! Read in this order: [`plan`] decides from the seed alone what happens to each Pod; [`round`] is a node and the Pods
//! on it; [`life`] runs one Pod from its first call to its last; [`strike`] harms a process that [`victims`] finds;
//! [`weather`] harms a whole node. [`ledger`] judges exit codes, [`story`] records what happened to one Pod, and
//! [`tally`] what happened in all. [`report`] prints the result, and [`document`] writes `docs/reliability.md`.
#![forbid(unsafe_code)]

mod bundles;
mod document;
mod ledger;
mod life;
mod options;
mod panics;
mod plan;
mod report;
mod round;
mod story;
mod strike;
mod tally;
mod victims;
mod weather;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Parser;
use tests::containerd::Containerd;
use tests::interrupt;

use crate::options::Options;
use crate::tally::Tally;

fn main() -> ExitCode {
    interrupt::end(run(&Options::parse()))
}

fn run(options: &Options) -> Result<()> {
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..u64::from(u32::MAX)));
    let containerds = Containerd::available()?;
    interrupt::clean_up()?;
    let (tally, start) = (Tally::default(), Instant::now());
    for round in round::rounds(options, &containerds) {
        round.run(options, seed, &tally)?;
        if tally.violations() >= options.give_up_after {
            println!("giving up after {} Pods with violations", tally.violations());
            break;
        }
    }
    let summary = tally.summary(seed, start.elapsed());
    println!("\n{}", report::text(&summary));
    if summary.violations.is_empty() && options.is_worth_a_document() {
        document::write(&containerds, &summary)?;
    }
    match summary.violations.len() {
        0 => Ok(()),
        count => bail!("{count} violations; `make chaos SEED={seed}` repeats the run"),
    }
}
