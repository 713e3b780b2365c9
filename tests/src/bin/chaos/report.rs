//! Formats the results as tables, for a terminal and for a document.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use crate::tally::{Counts, Part, Summary};

/// Number of violations that are printed with their stories.
const STORIES: usize = 5;

/// Returns the whole report.
pub fn text(summary: &Summary) -> String {
    let mut text = String::new();
    let counts = &summary.counts;
    for table in [pods(counts), strikes(counts), failures(counts), durations(counts)] {
        let _ = writeln!(text, "{}", aligned(&table));
    }
    if counts.left > 0 {
        let _ =
            writeln!(text, "{} things left of calls in which containerd was killed\n", counts.left);
    }
    // These come last, because some users only keep the end of a log.
    for (at, violation) in summary.violations.iter().enumerate() {
        let _ = writeln!(text, "** {}", violation.what);
        if at < STORIES {
            let _ = writeln!(text, "{}", violation.stories);
        }
    }
    let pods: usize = counts.pods.values().sum();
    let (seed, seconds) = (summary.seed, summary.took.as_secs());
    let _ = write!(text, "seed {seed}: {pods} Pods in {seconds} s, ");
    let _ = match summary.violations.len() {
        0 => write!(text, "every one removed, no exit code lost, nothing left, no panic"),
        count => write!(text, "{count} violations"),
    };
    text
}

/// Rows of cells. The first row is the heading.
pub type Table = Vec<Vec<String>>;

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// Returns the number of Pods by mode, and the harm to whole nodes.
pub fn pods(counts: &Counts) -> Table {
    let mut table = vec![row(["what was done", "Pods", "times"])];
    for (mode, pods) in &counts.pods {
        let times = counts.spells.get(mode).filter(|times| **times > 0);
        let times = times.map_or(String::new(), usize::to_string);
        table.push(row([mode.words(), &pods.to_string(), &times]));
    }
    table
}

/// Returns the harm by victim and part of the Pod's life.
pub fn strikes(counts: &Counts) -> Table {
    let mut table = vec![row(["victim", "in creation", "running", "being stopped", "not found"])];
    let met = counts.met.keys().map(|(victim, _)| *victim);
    let victims: BTreeSet<_> = met.chain(counts.missed.keys().copied()).collect();
    for victim in victims {
        let parts = [Part::Creation, Part::Running, Part::End];
        let met = parts.map(|part| counts.met.get(&(victim, part)).copied().unwrap_or_default());
        let missed = counts.missed.get(&victim).copied().unwrap_or_default();
        let [creation, running, end] = met.map(|count| count.to_string());
        table.push(row([victim.words(), &creation, &running, &end, &missed.to_string()]));
    }
    table
}

/// Returns the calls that failed, the most frequent first.
pub fn failures(counts: &Counts) -> Table {
    let mut failures: Vec<_> = counts.failures.iter().collect();
    failures.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let mut table = vec![row(["times", "calls that failed"])];
    table.extend(failures.into_iter().map(|(text, count)| row([&count.to_string(), text])));
    table
}

/// Returns the duration of calls.
pub fn durations(counts: &Counts) -> Table {
    let mut table = vec![row(["call", "times", "median ms", "99 % ms", "longest ms"])];
    for (name, durations) in &counts.calls {
        let mut sorted = durations.clone();
        sorted.sort_unstable();
        let at = |part: usize| milliseconds(&sorted, part);
        table.push(row([name, &sorted.len().to_string(), &at(50), &at(99), &at(100)]));
    }
    table
}

fn milliseconds(sorted: &[Duration], percent: usize) -> String {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).map_or(String::new(), |duration| duration.as_millis().to_string())
}

/// Formats a table for a terminal.
fn aligned(table: &Table) -> String {
    let columns = table.first().map_or(0, Vec::len);
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in table {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Formats a table for a document.
pub fn markdown(table: &Table) -> String {
    let mut text = String::new();
    for (at, row) in table.iter().enumerate() {
        let cells: Vec<_> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if at == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
        }
    }
    text
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_same_table_is_for_a_terminal_and_a_document() {
        let table = vec![row(["call", "times"]), row(["Stop|Go", "3"])];
        assert_eq!(aligned(&table), "call     times\nStop|Go  3\n");
        assert_eq!(markdown(&table), "| call | times |\n|---|---|\n| Stop\\|Go | 3 |\n");
    }

    #[test]
    fn the_longest_is_the_last_of_any_number() {
        let sorted = [1, 2, 300].map(Duration::from_millis);
        assert_eq!(milliseconds(&sorted, 50), "2");
        assert_eq!(milliseconds(&sorted, 100), "300");
        assert_eq!(milliseconds(&sorted[..1], 99), "1");
        assert_eq!(milliseconds(&[], 50), "");
    }
}
