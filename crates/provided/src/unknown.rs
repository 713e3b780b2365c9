//! The error for an unknown key of a setting, with the nearest key that exists.

use std::fmt;

use crate::settings::PREFIX;

/// A key that no setting has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    key: String,
    allowed: Vec<&'static str>,
}

/// Similarity from which a key counts as a misspelling of a known one (1 is equal, 0 has nothing in common).
const ALIKE: f64 = 0.5;

impl Unknown {
    /// Makes the error. `allowed` are the keys that exist.
    pub(crate) fn new(key: &str, allowed: Vec<&'static str>) -> Unknown {
        Unknown { key: key.to_owned(), allowed }
    }

    /// Returns the known key that was most likely meant.
    fn nearest(&self) -> Option<&'static str> {
        let own = plain(&self.key);
        let alike =
            |key: &&'static str| (strsim::normalized_damerau_levenshtein(&own, &plain(key)), *key);
        let nearest = self.allowed.iter().map(alike).max_by(|one, other| one.0.total_cmp(&other.0));
        nearest.filter(|(likeness, _)| *likeness >= ALIKE).map(|(_, key)| key)
    }
}

/// Returns the name of a key without parts that are easily mistaken: upper case, and separators of words.
fn plain(key: &str) -> String {
    let name = key.strip_prefix(PREFIX).unwrap_or(key);
    name.chars().filter(char::is_ascii_alphanumeric).map(|it| it.to_ascii_lowercase()).collect()
}

impl std::error::Error for Unknown {}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown key {:?}", self.key)?;
        if let Some(nearest) = self.nearest() {
            write!(f, ", did you mean {nearest:?}?")?;
        }
        match self.allowed.as_slice() {
            [others @ .., last] if !others.is_empty() => {
                write!(f, "; allowed is {} or {last}", others.join(", "))
            }
            all => write!(f, "; allowed is {}", all.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OF_POD;

    fn refusal(key: &str) -> String {
        OF_POD.check(&format!("{PREFIX}{key}")).expect_err("is refused").to_string()
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        for (key, nearest) in [
            ("core-dump", "coredump"),
            ("metrics", "metrics-listen"),
            ("Http-Listen", "http-listen"),
            ("http_listen", "http-listen"),
            ("http-timeout", "http-idle-timeout"),
            ("http-max-boddy", "http-max-body"),
            ("pre-init", "preinit"),
        ] {
            let text = refusal(key);
            let expected = format!("{PREFIX}{key}\", did you mean \"{PREFIX}{nearest}\"?");
            assert!(text.contains(&expected), "{text}");
        }
    }

    #[test]
    fn a_key_that_is_like_none_is_refused_with_all_there_are() {
        let text = refusal("xyz");
        assert!(!text.contains("did you mean"), "{text}");
        for crate::Setting { key, .. } in crate::ANNOTATIONS {
            assert!(text.contains(key), "no {key} in {text}");
        }
    }
}
