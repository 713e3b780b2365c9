//! A table in Markdown.

use std::fmt;

/// Names of columns, and rows with the same number of texts.
#[derive(Debug)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Makes an empty table.
    pub fn new<T: ToString>(columns: &[T]) -> Table {
        Table { columns: columns.iter().map(T::to_string).collect(), rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(to, "| {} |", self.columns.join(" | "))?;
        writeln!(to, "|{}", "---|".repeat(self.columns.len()))?;
        self.rows.iter().try_for_each(|row| writeln!(to, "| {} |", row.join(" | ")))
    }
}
