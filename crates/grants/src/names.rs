//! Keys whose value is a list of names, of which the node may allow some.

use std::fmt::Display;

use provided::PREFIX;
use serde::{Deserialize, Serialize};

use crate::{Giver, Granted};

/// What is named, and the most that the node allows. What applies is in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names<T> {
    /// What is named. `None` if nothing names any.
    pub named: Option<Granted<T>>,
    /// The most that the node allows. `None` is everything.
    pub ceiling: Option<NamesCeiling<T>>,
}

/// The names that the node allows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamesCeiling<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Where it is, for errors.
    pub place: String,
}

impl<T> Default for Names<T> {
    fn default() -> Names<T> {
        Names { named: None, ceiling: None }
    }
}

impl<T> Names<T> {
    /// What an image's label names, if the node and the Pod set nothing.
    pub fn of_image(entries: Option<Vec<T>>) -> Names<T> {
        let named = entries.map(|entries| Granted { entries, giver: Giver::Image });
        Names { named, ceiling: None }
    }
}

impl<T: Display> NamesCeiling<T> {
    /// Why no setting would allow what a guest lacks, for its refusal.
    pub(crate) fn forbids(&self, key: &str) -> String {
        let (place, name) = (&self.place, key.strip_prefix(PREFIX).unwrap_or(key));
        format!("{place} forbids that; its key {name} allows {}", or_nothing(&self.entries))
    }
}

/// The entries as a setting is written, or "nothing".
pub(crate) fn or_nothing<T: Display>(entries: &[T]) -> String {
    let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
    if entries.is_empty() { "nothing".to_owned() } else { entries.join(", ") }
}

#[cfg(test)]
impl<T: std::str::FromStr<Err = crate::text::Invalid>> Names<T> {
    /// What these texts name and allow.
    pub(crate) fn example(named: Option<(&str, Giver)>, ceiling: Option<&str>) -> Names<T> {
        let list = |text| crate::text::list(text).unwrap_or_else(|error| panic!("{error}"));
        let named = named.map(|(text, giver)| Granted { entries: list(text), giver });
        let place = "[ceiling] in /p".to_owned();
        Names { named, ceiling: ceiling.map(|text| NamesCeiling { entries: list(text), place }) }
    }
}
