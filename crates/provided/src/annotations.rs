//! Refuses the key of an annotation or a label that is in no table of settings, and names the nearest key that is.

use std::fmt;

use crate::settings::{ANNOTATIONS, LABELS, PREFIX, Setting};

/// A key with [`PREFIX`] that sets nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    key: String,
    allowed: &'static [&'static str],
}

/// Refuses a key that begins with [`PREFIX`] and is not the key of an annotation of a Pod.
///
/// # Errors
/// [`Unknown`].
pub fn check_annotation(key: &str) -> Result<(), Unknown> {
    check(key, &ANNOTATION_KEYS)
}

/// Refuses a key that begins with [`PREFIX`] and is not the key of a label of an image.
///
/// # Errors
/// [`Unknown`].
pub fn check_label(key: &str) -> Result<(), Unknown> {
    check(key, &LABEL_KEYS)
}

const ANNOTATION_KEYS: [&str; ANNOTATIONS.len()] = keys(&ANNOTATIONS);

const LABEL_KEYS: [&str; LABELS.len()] = keys(&LABELS);

const fn keys<const N: usize>(settings: &[Setting; N]) -> [&'static str; N] {
    let mut keys = [""; N];
    let mut at = 0;
    while at < N {
        keys[at] = settings[at].key;
        at += 1;
    }
    keys
}

fn check(key: &str, allowed: &'static [&'static str]) -> Result<(), Unknown> {
    if !key.starts_with(PREFIX) || allowed.contains(&key) {
        return Ok(());
    }
    Err(Unknown { key: key.to_owned(), allowed })
}

/// How alike a key and the known one must be to be taken for a slip (1 is the same, 0 has nothing in common).
const ALIKE: f64 = 0.5;

impl Unknown {
    /// The known key that was most likely meant.
    fn nearest(&self) -> Option<&'static str> {
        let own = plain(&self.key);
        let alike =
            |key: &&'static str| (strsim::normalized_damerau_levenshtein(&own, &plain(key)), *key);
        let nearest = self.allowed.iter().map(alike).max_by(|one, other| one.0.total_cmp(&other.0));
        nearest.filter(|(likeness, _)| *likeness >= ALIKE).map(|(_, key)| key)
    }
}

/// The name of a key without what is easily mistaken: upper case, and what separates words.
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
        match self.allowed {
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
    use crate::{LAYERS_LABEL, PREINIT};

    fn refusal(key: &str) -> String {
        check_annotation(&format!("{PREFIX}{key}")).expect_err("is refused").to_string()
    }

    #[test]
    fn each_key_of_the_table_passes_and_a_key_of_others() {
        for Setting { key, .. } in ANNOTATIONS {
            assert!(key.starts_with(PREFIX));
            assert_eq!(check_annotation(key), Ok(()));
        }
        assert_eq!(check_annotation("example.org/http-listne"), Ok(()));
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
        for key in ANNOTATION_KEYS {
            assert!(text.contains(key), "no {key} in {text}");
        }
    }

    #[test]
    fn a_label_of_an_image_is_known_only_where_an_image_may_have_it() {
        assert_eq!(check_label(PREINIT), Ok(()));
        assert_eq!(check_label(LAYERS_LABEL), Ok(()));
        let text = check_label("wasmtime.shim/http-listen").expect_err("is refused").to_string();
        assert!(
            text.ends_with("; allowed is wasmtime.shim/layers or wasmtime.shim/preinit"),
            "{text}"
        );
    }
}
