//! The results of one scenario.

use std::fmt;

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Figure, Plot, Table};
use crate::effort::Bench;

/// A scenario, by its name on the command line.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// Name on the command line.
    pub name: &'static str,
    /// Heading in the report.
    pub title: &'static str,
    /// Function that measures it.
    pub measure: fn(&Bench) -> Result<Section>,
}

/// Results of a scenario.
#[derive(Debug)]
pub struct Section {
    /// Name of the scenario.
    pub name: &'static str,
    title: &'static str,
    method: String,
    tables: Vec<Table>,
    texts: Vec<String>,
    /// Plots, which are drawn beside the report.
    pub plots: Vec<Plot>,
    /// Goals, and what was reached.
    pub figures: Vec<Figure>,
    /// The numbers.
    pub data: Value,
}

impl Section {
    /// Makes a section from the method and the numbers.
    pub fn new(scenario: &Scenario, method: &str, data: Value) -> Section {
        Section {
            name: scenario.name,
            title: scenario.title,
            method: method.into(),
            tables: Vec::new(),
            texts: Vec::new(),
            plots: Vec::new(),
            figures: Vec::new(),
            data,
        }
    }

    /// Makes the section of a scenario that failed.
    pub fn not_measured(scenario: &Scenario, error: &anyhow::Error) -> Result<Section> {
        let why = format!("Not measured: {error:#}");
        Ok(Section::new(scenario, &why, data([("error", format!("{error:#}"))])?))
    }

    /// Adds a table.
    pub fn table(mut self, table: Table) -> Section {
        self.tables.push(table);
        self
    }

    /// Adds a text in which each line and space counts.
    pub fn text(mut self, text: String) -> Section {
        self.texts.push(text);
        self
    }

    /// Adds a plot.
    pub fn plot(mut self, plot: Plot) -> Section {
        self.plots.push(plot);
        self
    }

    /// Adds goals, and what was reached.
    pub fn figures(mut self, figures: impl IntoIterator<Item = Figure>) -> Section {
        self.figures.extend(figures);
        self
    }
}

impl fmt::Display for Section {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "## {}\n\n{}\n", self.title, self.method)?;
        self.tables.iter().try_for_each(|table| writeln!(to, "{table}"))?;
        self.texts.iter().try_for_each(|text| writeln!(to, "```\n{}\n```\n", text.trim_end()))?;
        self.plots.iter().try_for_each(|plot| writeln!(to, "{plot}"))
    }
}

/// Returns numbers by their names.
pub fn data<T: Serialize>(
    numbers: impl IntoIterator<Item = (impl Into<String>, T)>,
) -> Result<Value> {
    let mut map = Map::new();
    for (name, value) in numbers {
        map.insert(name.into(), serde_json::to_value(value)?);
    }
    Ok(Value::Object(map))
}
