//! The command line.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use tests::command;
use tests::isolation::specs::{Fields, Spec};

/// Makes containers of generated specs under two builds of the shim, and compares what their processes have.
#[derive(Debug, Parser)]
pub struct Options {
    /// Number of specs.
    #[arg(long, default_value_t = 1000)]
    pub number: usize,
    /// Seed from which the specs are generated.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The build to compare with, by its path or by its name in PATH.
    #[arg(long, default_value = "containerd-shim-before-v1")]
    pub before: PathBuf,
    /// Makes only the spec of that number, and prints it.
    #[arg(long)]
    pub spec: Option<usize>,
}

impl Options {
    /// The numbers of the specs to make.
    pub fn numbers(&self) -> Range<usize> {
        self.spec.map_or(0..self.number, |spec| spec..spec + 1)
    }

    /// Whether one spec alone is made.
    pub fn is_one(&self) -> bool {
        self.spec.is_some()
    }

    /// The path of the build to compare with.
    ///
    /// # Errors
    /// There is no such file, or no program of that name in PATH.
    pub fn before(&self) -> Result<PathBuf> {
        let found = match self.before.components().count() {
            1 => command::in_path(&self.before),
            _ => fs::canonicalize(&self.before).ok(),
        };
        found.with_context(|| {
            format!(
                "cannot find the shim {:?} to compare with; --before names its path",
                self.before
            )
        })
    }

    /// The spec of that number.
    pub fn made_up(&self, number: usize) -> Spec {
        Spec::new(self.seed, number, Fields::All)
    }
}
