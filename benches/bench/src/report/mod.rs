//! Writes `docs/benchmarks.md`, its plots beside it, and the same as JSON.
//!
//! A scenario returns a [`Section`] with [`table`]s, [`plot`]s, [`figure`]s with goals, and the numbers themselves.
//! [`machine`] describes where it was measured. The report keeps the sections of scenarios that were not measured this time;
//! each says when it was.

pub mod figure;
pub mod machine;
pub mod plot;
pub mod section;
pub mod table;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tests::command;
use tests::containerd::repository;

pub use figure::{Figure, Reach};
pub use plot::Plot;
pub use section::{Scenario, Section, data};
pub use table::Table;

use crate::effort::Bench;
use machine::Machine;

const HEAD: &str = "# Benchmarks\n\n`make bench` writes this page; do not edit it. `benchmarks.json` has the same numbers.\n\n";

const METHOD: &str = "The contenders take turns, round by round, on one containerd. Each run has a new id. The first \
    round fills caches\nand does not count. Each run is checked by its output or its answer. Times are medians, with the \
    tenth and the ninetieth\npercentile. They are those of this machine, so compare only the ratios.\n\n\
    - *this shim* is the one of this repository as it is shipped (`make dist`);\n\
    - the *peer* is the baseline, a runwasi-style shim: it uses the crate `containerd-shim-wasm` and the same Wasmtime, \
    and keeps\n  compiled code in containerd, as containerd/runwasi does;\n\
    - `wasmtime serve` is Wasmtime's own server;\n\
    - *before*, where it is there, is an older build of this shim (`target/baseline`);\n\
    - *runc* runs static native programs that do the same;\n\
    - the *floor* answers every call at once and runs nothing, which shows the cost of containerd and its client.\n\n\
    Each is built as it is shipped: this shim and the peer with link-time optimization, Wasmtime's own program without.\n\n";

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    sections: Vec<Measured>,
    #[serde(skip)]
    plots: Vec<Plot>,
}

/// A section as the report keeps it.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    scenario: String,
    /// Day of the measurement (ISO 8601).
    day: String,
    /// Commit of the bench.
    commit: String,
    text: String,
    figures: Vec<Figure>,
    data: Value,
}

/// The part of an earlier report that is kept.
#[derive(Deserialize)]
struct Earlier {
    sections: Vec<Measured>,
}

impl Report {
    /// Makes an empty report.
    pub fn new(bench: &Bench) -> Result<Report> {
        Ok(Report { machine: Machine::this(bench)?, sections: Vec::new(), plots: Vec::new() })
    }

    /// Adds what was measured now.
    pub fn add(&mut self, section: Section) -> Result<()> {
        let day = command::run("date", ["+%F"])?.success()?.stdout;
        let root = repository().display().to_string();
        let commit = command::run("git", ["-C", &root, "describe", "--always", "--dirty"])?.stdout;
        self.sections.push(Measured {
            scenario: section.name.into(),
            day: day.trim().into(),
            commit: commit.trim().into(),
            text: section.to_string(),
            figures: section.figures,
            data: section.data,
        });
        self.plots.extend(section.plots);
        Ok(())
    }

    /// Prints the goals and what was reached.
    pub fn print_figures(&self) {
        println!("\n{}{}", self.machine, self.figures());
    }

    /// Writes all files. Keeps the sections of other scenarios, which are in this order.
    pub fn write(mut self, scenarios: &[Scenario]) -> Result<()> {
        let folder = repository().join("docs");
        let plots = folder.join("benchmarks");
        fs::create_dir_all(&plots)?;
        for plot in &self.plots {
            plot.draw(&plots)?;
        }
        let file = folder.join("benchmarks.json");
        let kept = earlier(&file).into_iter().filter(|earlier| {
            self.sections.iter().all(|section| section.scenario != earlier.scenario)
        });
        let kept: Vec<_> = kept.collect();
        self.sections.extend(kept);
        let place = |section: &Measured| {
            scenarios.iter().position(|scenario| scenario.name == section.scenario)
        };
        self.sections.retain(|section| place(section).is_some());
        self.sections.sort_by_key(place);
        fs::write(file, serde_json::to_string_pretty(&self)? + "\n")?;
        Ok(fs::write(folder.join("benchmarks.md"), self.text()?)?)
    }

    fn figures(&self) -> Table {
        let figures: Vec<_> = self.sections.iter().flat_map(|section| &section.figures).collect();
        figure::table(&figures)
    }

    fn text(&self) -> Result<String> {
        let mut text = String::from(HEAD);
        write!(text, "{}\n{METHOD}", self.machine)?;
        writeln!(text, "## What was to be reached\n\n{}", self.figures())?;
        for Measured { day, commit, text: section, .. } in &self.sections {
            writeln!(text, "{section}\nMeasured on {day}, at commit {commit}.\n")?;
        }
        Ok(text.trim_end().to_owned() + "\n")
    }
}

/// The sections of an earlier report. There are none if another version of the bench wrote it.
fn earlier(file: &Path) -> Vec<Measured> {
    let text = fs::read_to_string(file).unwrap_or_default();
    serde_json::from_str(&text).map_or_else(|_| Vec::new(), |earlier: Earlier| earlier.sections)
}
