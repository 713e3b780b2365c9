//! Reports the results of all specs, as a text for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use tests::isolation::specs::Spec;

use crate::intended;
use crate::pair::{Compared, Difference};

/// Counts of what came of the specs.
#[derive(Debug, Default)]
pub struct Report {
    made: usize,
    refused: BTreeMap<String, usize>,
    intended: BTreeMap<&'static str, usize>,
    /// The specs in which they were seen.
    unexpected: BTreeMap<Difference, Vec<usize>>,
}

/// How many numbers of specs a line has.
const SHOWN: usize = 5;

impl Report {
    /// Adds what came of a spec.
    pub fn add(&mut self, spec: &Spec, compared: Compared) {
        match compared.refused {
            Some(why) => *self.refused.entry(why).or_default() += 1,
            None => self.made += 1,
        }
        for difference in compared.differences {
            match intended::reason(spec, &difference) {
                Some(reason) => *self.intended.entry(reason).or_default() += 1,
                None => self.unexpected.entry(difference).or_default().push(spec.number),
            }
        }
    }

    /// How many specs there were.
    pub fn count(&self) -> usize {
        self.made + self.refused.values().sum::<usize>()
    }

    /// How many differences there were that are not intended.
    pub fn unexpected(&self) -> usize {
        self.unexpected.values().map(Vec::len).sum()
    }

    /// The whole.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (Difference { fact, before, now }, specs) in &self.unexpected {
            let shown: Vec<_> = specs.iter().take(SHOWN).map(usize::to_string).collect();
            let _ = writeln!(
                text,
                "{fact} in {} specs ({}):\n  before {before}\n  now    {now}",
                specs.len(),
                shown.join(", ")
            );
        }
        for (reason, count) in &self.intended {
            let _ = writeln!(text, "intended, {count} times: {reason}");
        }
        for (why, count) in &self.refused {
            let _ = writeln!(text, "refused by both, {count} times: {why}");
        }
        let _ =
            write!(text, "{} specs: {} made, the others refused by both", self.count(), self.made);
        text
    }
}
