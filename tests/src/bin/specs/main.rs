//! Makes the containers of made-up OCI specs under two builds of the shim, side by side, and holds what each process has
//! against the other, fact by fact: whatever a guest's process was denied it is still denied.
//!
//! A difference is a failure, unless it is intended. To read in this order: [`options`] is what can be asked for; [`pair`] makes
//! one spec twice; [`intended`] lists the differences that are meant, and why, with what [`volumes`] ask for; [`report`] counts
//! and prints.
#![forbid(unsafe_code)]

mod intended;
mod options;
mod pair;
mod report;
mod volumes;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use tests::interrupt;
use tests::isolation::places::Joined;

use crate::options::Options;
use crate::pair::Builds;
use crate::report::Report;

/// How many specs lie between two lines that say how far it is.
const STEP: usize = 100;

fn main() -> ExitCode {
    interrupt::end(run(&Options::parse()))
}

fn run(options: &Options) -> Result<()> {
    let before = options.before()?;
    interrupt::clean_up()?;
    let (joined, builds) = (Joined::start()?, Builds::start(&before)?);
    let mut report = Report::default();
    for number in options.numbers() {
        let spec = options.made_up(number);
        if options.is_one() {
            println!("{:#}", spec.config);
        }
        report.add(&spec, pair::compare(&builds, &spec, &joined)?);
        if report.count() % STEP == 0 {
            println!(
                "{} specs, {} differences that are not intended",
                report.count(),
                report.unexpected()
            );
        }
    }
    builds.end()?;
    println!("{}", report.text());
    match report.unexpected() {
        0 => Ok(()),
        count => bail!(
            "{count} differences are not intended; `make specs SEED={} SPEC=NUMBER` repeats one",
            options.seed
        ),
    }
}
