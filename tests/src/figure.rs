//! Notes what a test has measured.

use std::io::{self, Write};

use anyhow::Result;

/// Writes a line into the output of the test, also of one that succeeds, whose output the harness would keep to itself.
pub fn note(text: &str) -> Result<()> {
    Ok(writeln!(io::stderr(), "figure: {text}")?)
}
