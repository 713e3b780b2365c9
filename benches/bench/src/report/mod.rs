//! Writes `docs/benchmarks.md`, its plots beside it, and the same as JSON.
//!
//! A scenario returns a [`Section`] with [`table`]s, [`plot`]s, [`figure`]s with goals, and the numbers themselves.
//! [`machine`] describes where it was measured.

pub mod figure;
pub mod machine;
pub mod plot;
pub mod section;
pub mod table;

use std::fmt::Write as _;
use std::fs;

use anyhow::Result;
use serde::Serialize;
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
    /// One section for each scenario.
    pub sections: Vec<Section>,
}

impl Report {
    /// Makes an empty report.
    pub fn new(bench: &Bench) -> Result<Report> {
        Ok(Report { machine: Machine::this(bench)?, sections: Vec::new() })
    }

    /// Prints the goals and what was reached.
    pub fn print_figures(&self) {
        println!("\n{}{}", self.machine, self.figures());
    }

    /// Writes all files.
    pub fn write(&self) -> Result<()> {
        let folder = repository().join("docs");
        let plots = folder.join("benchmarks");
        fs::create_dir_all(&plots)?;
        for plot in self.sections.iter().flat_map(|section| &section.plots) {
            plot.draw(&plots)?;
        }
        fs::write(folder.join("benchmarks.json"), serde_json::to_string_pretty(self)? + "\n")?;
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
        self.sections.iter().try_for_each(|section| writeln!(text, "{section}"))?;
        Ok(text.trim_end().to_owned() + "\n")
    }
}
