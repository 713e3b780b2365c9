//! Counts what happened in a run.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::plan::{Mode, Phase, Plan, Strike, Victim};
use crate::story::Story;

/// Counters of all threads of a run.
#[derive(Debug, Default)]
pub struct Tally(Mutex<Counts>);

/// All counters.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    /// Number of Pods by kind of harm.
    pub pods: BTreeMap<Mode, usize>,
    /// Number of times that whole nodes were harmed.
    pub spells: BTreeMap<Mode, usize>,
    /// Number of strikes by victim and part of the Pod's life.
    pub met: BTreeMap<(Victim, Part), usize>,
    /// Number of times that a victim was not found.
    pub missed: BTreeMap<Victim, usize>,
    /// Number of failed calls, by message.
    pub failures: BTreeMap<String, usize>,
    /// Number of things that were left of calls during which containerd was killed.
    pub left: usize,
    /// Durations of calls.
    pub calls: BTreeMap<&'static str, Vec<Duration>>,
    /// Violations.
    pub violations: Vec<Violation>,
}

/// Part of a Pod's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// Until its containers have started.
    Creation,
    /// While they run.
    Running,
    /// From the first call that should stop it.
    End,
}

/// A violation.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Description, in one line or a few.
    pub what: String,
    /// Stories of the Pods that it concerns.
    pub stories: String,
}

/// The results of a run.
#[derive(Debug)]
pub struct Summary {
    /// Seed with which the run can be repeated.
    pub seed: u64,
    /// Duration of the run.
    pub took: Duration,
    /// Counters.
    pub counts: Counts,
    /// Violations.
    pub violations: Vec<Violation>,
}

/// Longest part of a call's message that is distinguished, in characters.
const READABLE: usize = 240;

/// Name under which the duration of a Pod's removal, with all attempts, is recorded.
pub const REMOVAL: &str = "removal, with all tries";

impl Tally {
    /// Records that a Pod has ended.
    pub fn ended(&self, plan: &Plan, story: &Story, containerd: &str) {
        let what = story.violations();
        if !what.is_empty() {
            let what = what.join("; ");
            let what = format!("Pod {} (containerd {containerd}): {what}", plan.number);
            self.violation(what, story.text());
        }
    }

    /// Records that a Pod of that mode begins.
    pub fn begun(&self, mode: Mode) {
        *self.counts().pods.entry(mode).or_default() += 1;
    }

    /// Records a violation.
    pub fn violation(&self, what: String, stories: String) {
        println!("** {}", what.lines().next().unwrap_or_default());
        self.counts().violations.push(Violation { what, stories });
    }

    /// Returns the number of violations: one for each Pod, and one for each thing that belongs to no Pod.
    pub fn violations(&self) -> usize {
        self.counts().violations.len()
    }

    /// Records a strike, which may have found no victim.
    pub fn struck(&self, strike: &Strike, has_met: bool) {
        let mut counts = self.counts();
        match has_met {
            true => *counts.met.entry((strike.victim, Part::of(strike.phase))).or_default() += 1,
            false => *counts.missed.entry(strike.victim).or_default() += 1,
        }
    }

    /// Records how often whole nodes were harmed.
    pub fn spells(&self, mode: Mode, times: usize) {
        *self.counts().spells.entry(mode).or_default() += times;
    }

    /// Records how many things were left of calls during which containerd was killed.
    pub fn left(&self, things: usize) {
        self.counts().left += things;
    }

    /// Records the duration of a call.
    pub fn call(&self, name: &'static str, took: Duration) {
        self.counts().calls.entry(name).or_default().push(took);
    }

    /// Records a failed call.
    pub fn failure(&self, error: &str) {
        *self.counts().failures.entry(normalised(error)).or_default() += 1;
    }

    /// Returns the results.
    pub fn summary(&self, seed: u64, took: Duration) -> Summary {
        let mut counts = self.counts().clone();
        let violations = std::mem::take(&mut counts.violations);
        Summary { seed, took, counts, violations }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn of(phase: Phase) -> Self {
        match phase {
            Phase::Sandbox | Phase::Start => Self::Creation,
            Phase::Exec | Phase::Running => Self::Running,
            Phase::Stop | Phase::Remove => Self::End,
        }
    }
}

/// Removes the parts of a message that differ from one to the next: ids, numbers, names of temporary directories.
fn normalised(message: &str) -> String {
    let mut text = String::new();
    let mut rest = message;
    while !rest.is_empty() {
        let end = rest.find(|it: char| !it.is_ascii_alphanumeric()).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if is_number_or_id(word) || (!word.is_empty() && text.ends_with("wst-")) {
            text.push('#');
        } else {
            let letters = word.trim_end_matches(|it: char| it.is_ascii_digit());
            text.push_str(if word.len() - letters.len() < 4 { word } else { letters });
        }
        let mut characters = after.chars();
        text.extend(characters.next());
        rest = characters.as_str();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(READABLE).collect()
}

/// Returns whether a word consists of digits, or of at least four hexadecimal digits if it contains letters.
fn is_number_or_id(word: &str) -> bool {
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let is_hexadecimal = word.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits > 0 && (digits == word.len() || (word.len() >= 4 && is_hexadecimal))
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::plan::How;

    #[test]
    fn messages_that_differ_in_numbers_and_ids_alone_are_one() {
        let one = "no task c51c7a96d6b1: /tmp/wst-a8XkQz/state/cni-0a1b-22 after 12 s: .tmp-status3940031017 é";
        let other =
            "no task 0e7738a1ffff: /tmp/wst-999999/state/cni-7777-22 after 9 s: .tmp-status17283 é";
        assert_eq!(normalised(one), normalised(other));
        assert_eq!(normalised(one), "no task #: /tmp/wst-#/state/cni-#-# after # s: .tmp-status é");
        assert_ne!(normalised("deadline exceeded"), normalised("not found"));
    }

    #[test]
    fn strikes_are_counted_by_whom_they_met_and_when() {
        let tally = Tally::default();
        for phase in [Phase::Sandbox, Phase::Start, Phase::Remove] {
            let after = Duration::ZERO;
            let strike = Strike { victim: Victim::Shim, phase, after, how: How::Kill };
            tally.struck(&strike, true);
            tally.struck(&strike, false);
        }
        let counts = tally.summary(1, Duration::ZERO).counts;
        assert_eq!(counts.met[&(Victim::Shim, Part::Creation)], 2);
        assert_eq!(counts.met[&(Victim::Shim, Part::End)], 1);
        assert_eq!(counts.missed[&Victim::Shim], 3);
    }
}
