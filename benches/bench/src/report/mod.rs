//! `docs/benchmarks.md`, its plots beside it, and the same as JSON.
//!
//! A scenario hands over a [`Section`]: [`table`]s, [`plot`]s, [`figure`]s that were to be reached, and the numbers
//! themselves. [`machine`] says where it was measured.

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

const HEAD: &str = "# Benchmarks\n\nWritten by `make bench`, not to be edited; the numbers are in `benchmarks.json` as \
    well.\n\n";

const METHOD: &str = "The contenders take turns, round by round, on one containerd, each run under a new id; the first \
    round fills caches\nand is not counted. What is run is checked each time, by its output or its answer. Times are \
    medians, with the\ntenth and the ninetieth percentile. They are of this machine; what can be compared are the \
    ratios.\n\n\
    - *this shim* is the one of this repository as it is shipped (`make dist`);\n\
    - the *peer* is a shim on the crate `containerd-shim-wasm`, with the same Wasmtime and with what it compiled \
    kept in containerd, as\n  containerd/runwasi has it;\n\
    - `wasmtime serve` is Wasmtime's own server, of the same version;\n\
    - *runc* runs static native programs that do the same;\n\
    - the *floor* answers every call at once and runs nothing: that is what containerd and its client cost.\n\n\
    Each is built as it is shipped: this shim and the peer with link-time optimization, Wasmtime's own program without.\n\n";

/// All that is reported.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    /// A scenario each.
    pub sections: Vec<Section>,
}

impl Report {
    /// An empty one.
    pub fn new(bench: &Bench) -> Result<Report> {
        Ok(Report { machine: Machine::this(bench)?, sections: Vec::new() })
    }

    /// Prints what was to be reached, and what was.
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
