//! Parses one line of a trace: `begin end pid id process name`, with times in nanoseconds of CLOCK_MONOTONIC.

use std::path::Path;

use anyhow::{Context, Result};

/// A step of a process.
#[derive(Debug, Clone)]
pub struct Step {
    /// Begin, in nanoseconds.
    pub begin: i64,
    /// End, in nanoseconds. A mark ends when it begins.
    pub end: i64,
    /// Id that the process's shim was executed with: that of the Pod or of a container.
    pub id: String,
    /// The kind of process.
    pub process: String,
    /// Name of the step.
    pub name: String,
}

/// Returns all steps of a file, in the order of their begin. If two begin at the same time, the longer one comes first.
pub fn read(path: &Path) -> Result<Vec<Step>> {
    let text = super::read(path)?;
    let steps = text.lines().map(|line| parse(line).with_context(|| format!("line {line:?}")));
    let mut steps = steps.collect::<Result<Vec<_>>>()?;
    steps.sort_by_key(|step| (step.begin, -step.end));
    Ok(steps)
}

fn parse(line: &str) -> Option<Step> {
    let mut words = line.splitn(6, ' ');
    let mut number = || words.next()?.parse().ok();
    let (begin, end, _pid): (_, _, i64) = (number()?, number()?, number()?);
    let mut word = || words.next().map(str::to_owned);
    Some(Step { begin, end, id: word()?, process: word()?, name: word()? })
}
