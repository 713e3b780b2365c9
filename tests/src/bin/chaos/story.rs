//! Records what happened to one Pod, with times and violations.

use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The story of one Pod. Its own thread and the one that harms it write it.
#[derive(Debug)]
pub struct Story {
    start: Instant,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    lines: Vec<String>,
    violations: Vec<String>,
    last_failure: String,
    cut_calls: Vec<&'static str>,
}

impl Story {
    /// Makes a story that begins with that line.
    pub fn new(first: String) -> Self {
        let story = Self { start: Instant::now(), record: Mutex::default() };
        story.note(&first);
        story
    }

    /// Adds a line.
    pub fn note(&self, what: &str) {
        let line = format!("{:>8.3} s  {what}", self.start.elapsed().as_secs_f64());
        self.record().lines.push(line);
    }

    /// Adds the reason why a call failed. If it is the same as for the last failed call, it is not repeated.
    pub fn failure(&self, error: &str) {
        let is_new = std::mem::replace(&mut self.record().last_failure, error.into()) != error;
        self.note(&format!("failed: {}", if is_new { error } else { "as before" }));
    }

    /// Adds a violation.
    pub fn violation(&self, what: &str) {
        self.note(&format!("** {what}"));
        self.record().violations.push(what.to_owned());
    }

    /// Records that containerd was killed during a call.
    pub fn cut(&self, call: &'static str) {
        self.record().cut_calls.push(call);
    }

    /// Returns whether containerd was killed during a call.
    pub fn is_cut(&self) -> bool {
        !self.record().cut_calls.is_empty()
    }

    /// Returns whether containerd was killed during a call of that name.
    pub fn is_cut_in(&self, call: &str) -> bool {
        self.record().cut_calls.contains(&call)
    }

    /// Returns the violations so far.
    pub fn violations(&self) -> Vec<String> {
        self.record().violations.clone()
    }

    /// Returns the whole story.
    pub fn text(&self) -> String {
        self.record().lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "  {line}");
            text
        })
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
