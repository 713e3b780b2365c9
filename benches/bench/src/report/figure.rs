//! What was to be reached, and what was.

use std::fmt;

use serde::Serialize;

use super::Table;

/// A bound.
#[derive(Debug, Clone, Copy, Serialize)]
pub enum Reach {
    /// Or less.
    AtMost(f64),
    /// Or more.
    AtLeast(f64),
}

/// One figure.
#[derive(Debug, Serialize)]
pub struct Figure {
    work: String,
    /// What the number is: `× peer`, `MB`.
    unit: &'static str,
    reach: Reach,
    reached: f64,
    is_met: bool,
}

impl Figure {
    /// From what was reached.
    pub fn new(work: &str, unit: &'static str, reach: Reach, reached: f64) -> Figure {
        let is_met = match reach {
            // Less than nothing was disturbed by something else.
            Reach::AtMost(most) => (0.0..=most).contains(&reached),
            Reach::AtLeast(least) => reached >= least,
        };
        Figure { work: work.into(), unit, reach, reached, is_met }
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

/// All of them.
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
