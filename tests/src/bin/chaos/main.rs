//! Runs many Pods on private containerds while processes are killed or stopped, the disk fills up and images are
//! deleted, and looks at what must hold all the same:
//!
//! - every Pod can be removed, within a bounded time;
//! - an exit code that was reported is the true one, and stays;
//! - a Pod that nothing was done to comes through without a failed call;
//! - no call stays without an answer;
//! - nothing is left on the machine, and no log has a panic.
//!
//! To read in this order: [`plan`] has what happens to each Pod, decided by the seed alone; [`round`] is a node and the
//! Pods that run on it; [`life`] takes one Pod from its first call to its last, and [`strike`] does the harm, to a
//! process that [`victims`] finds, while [`weather`] is what befalls a whole node. [`ledger`] judges exit codes,
//! [`story`] keeps what happened to one Pod, [`tally`] what happened in all; [`report`] prints it, and [`document`]
//! writes `docs/reliability.md`.
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
            println!("giving up after {} Pods that were not as they must be", tally.violations());
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
        count => bail!("{count} of these must not be; `make chaos SEED={seed}` repeats the run"),
    }
}
