//! The steps of one Pod's start, and their sum.

use std::fmt;

use anyhow::{Context, Result};

use super::Step;

/// Length of the longest bar, in characters.
const WIDTH: i64 = 50;

/// Longest part of a step's name that is shown, in characters. Some names contain paths.
const NAME: usize = 70;

/// First and last step of a container.
const CREATE: &str = "Create";
const START: &str = "Start";
const FIRST_INSTRUCTION: &str = "first guest instruction";

/// All steps of a Pod with one container up to its guest's first instruction.
#[derive(Debug)]
pub struct Start<'a> {
    steps: Vec<&'a Step>,
    create: &'a Step,
    start: &'a Step,
    first: &'a Step,
}

impl Start<'_> {
    /// Returns the start of the Pod with that id.
    pub fn of<'a>(all: &'a [Step], pod: &str) -> Result<Start<'a>> {
        let all: Vec<_> = all.iter().filter(|step| step.id == pod).collect();
        // The Pod's pause is created and started in the same way before.
        let last = |name: &str| {
            let step = all.iter().rev().find(|step| step.name == name).copied();
            step.with_context(|| format!("the trace of Pod {pod} has no {name:?}"))
        };
        let first = last(FIRST_INSTRUCTION)?;
        let (create, start) = (last(CREATE)?, last(START)?);
        let steps = all.into_iter().filter(|step| step.begin <= first.begin).collect();
        Ok(Start { steps, create, start, first })
    }

    /// Returns the time from Create received to the first instruction, in milliseconds.
    pub fn whole(&self) -> f64 {
        milliseconds(self.first.begin - self.create.begin)
    }

    /// As [`Start::whole`], without the time between the answer to Create and the request to Start.
    pub fn own(&self) -> f64 {
        self.whole() - milliseconds(self.start.begin - self.create.end)
    }

    /// Returns the time of the steps with these names from Create on, in milliseconds.
    pub fn of_steps(&self, names: &[&str]) -> f64 {
        let later = self.steps.iter().filter(|step| step.begin >= self.create.begin);
        let named = later.filter(|step| names.contains(&step.name.as_str()));
        milliseconds(named.map(|step| step.end - step.begin).sum())
    }
}

impl fmt::Display for Start<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(begin) = self.steps.first().map(|step| step.begin) else { return Ok(()) };
        let whole = (self.first.begin - begin).max(1);
        writeln!(to, "{:>8} {:>8}  {:<50}  process  step", "at, ms", "took, ms", "")?;
        for step in &self.steps {
            let (at, took) = (milliseconds(step.begin - begin), step.end - step.begin);
            let from = ((step.begin - begin) * WIDTH / whole).min(WIDTH - 1);
            let bar = match took {
                0 => "·".to_owned(),
                _ => "█".repeat((took * WIDTH / whole).clamp(1, WIDTH - from) as usize),
            };
            let bar = " ".repeat(from as usize) + &bar;
            let took = if took == 0 { String::new() } else { format!("{:.2}", milliseconds(took)) };
            writeln!(
                to,
                "{at:>8.2} {took:>8}  {bar:<50}  {:<7}  {:.NAME$}",
                step.process, step.name
            )?;
        }
        writeln!(to, "\nCreate received → first guest instruction: {:.2} ms", self.whole())
    }
}

fn milliseconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e6
}
