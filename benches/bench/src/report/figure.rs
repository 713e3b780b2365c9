//! Goals, and what was reached.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Table;

/// A bound.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Reach {
    /// This value or less.
    AtMost(f64),
    /// This value or more.
    AtLeast(f64),
}

/// A goal and what was reached.
#[derive(Debug, Serialize, Deserialize)]
pub struct Figure {
    work: String,
    /// Unit of the number: `× peer`, `MB`.
    unit: String,
    reach: Reach,
    reached: f64,
    is_met: bool,
}

impl Figure {
    /// Makes a figure from what was reached.
    pub fn new(work: &str, unit: &str, reach: Reach, reached: f64) -> Figure {
        let is_met = match reach {
            // A negative value means that something else disturbed the measurement.
            Reach::AtMost(most) => (0.0..=most).contains(&reached),
            Reach::AtLeast(least) => reached >= least,
        };
        Figure { work: work.into(), unit: unit.into(), reach, reached, is_met }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reach::AtMost(most) => write!(to, "≤ {most}"),
            Reach::AtLeast(least) => write!(to, "≥ {least}"),
        }
    }
}

/// Returns a table of all figures.
pub fn table(figures: &[&Figure]) -> Table {
    let mut table = Table::new(&["work", "to reach", "reached", ""]);
    for Figure { work, unit, reach, reached, is_met } in figures {
        let met = if *is_met { "yes" } else { "**no**" };
        table.row([
            work.clone(),
            format!("{reach} {unit}").trim().into(),
            format!("{reached:.2} {unit}").trim().into(),
            met.into(),
        ]);
    }
    table
}
