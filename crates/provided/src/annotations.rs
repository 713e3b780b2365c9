//! The annotations of a Pod that set something here: one table, from which an unknown key is refused with the nearest
//! known one.

use std::fmt;

use crate::LAYERS_LABEL;

/// What the key of each begins with.
pub const PREFIX: &str = "wasmtime.shim/";

/// The annotation of a Pod, or the label of an image, that asks for a guest's initialisation before it is compiled.
pub const PREINIT: &str = "wasmtime.shim/preinit";

/// What [`PREINIT`] can be.
pub const PREINIT_VALUES: &str = "true or false";

/// The annotation that asks for a core dump of a guest that traps.
pub const CORE_DUMP: &str = "wasmtime.shim/coredump";

/// What [`CORE_DUMP`] can be.
pub const CORE_DUMP_VALUES: &str = "an absolute path in the container";

/// An annotation of a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Annotation {
    /// Its key.
    pub key: &'static str,
    /// What it sets.
    pub sets: &'static str,
}

/// Every annotation there is, in the order of their keys.
pub const ANNOTATIONS: [Annotation; 13] = [
    Annotation {
        key: CORE_DUMP,
        sets: "the file or directory for a core dump of a guest that traps",
    },
    Annotation {
        key: "wasmtime.shim/http-access-log",
        sets: "whether each response is a line of JSON on stdout",
    },
    Annotation {
        key: "wasmtime.shim/http-idle-timeout",
        sets: "how long a client of the HTTP server may be silent",
    },
    Annotation {
        key: "wasmtime.shim/http-instances",
        sets: "how many requests one instance serves",
    },
    Annotation {
        key: "wasmtime.shim/http-listen",
        sets: "the address and port of the HTTP server",
    },
    Annotation { key: "wasmtime.shim/http-max-body", sets: "the largest body of a request" },
    Annotation {
        key: "wasmtime.shim/http-max-connections",
        sets: "the most connections at a time",
    },
    Annotation { key: "wasmtime.shim/http-max-header", sets: "the largest head of a request" },
    Annotation { key: "wasmtime.shim/http-max-requests", sets: "the most instances at a time" },
    Annotation {
        key: "wasmtime.shim/http-request-ids",
        sets: "whether the guest's lines begin with the id of their request",
    },
    Annotation {
        key: "wasmtime.shim/http-request-timeout",
        sets: "how long a guest may take until its response begins",
    },
    Annotation {
        key: "wasmtime.shim/metrics-listen",
        sets: "the address and port where metrics are served",
    },
    Annotation { key: PREINIT, sets: "whether a guest is initialised before it is compiled" },
];

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
    check(key, &KEYS)
}

/// Refuses a key that begins with [`PREFIX`] and is not the key of a label of an image.
///
/// # Errors
/// [`Unknown`].
pub fn check_label(key: &str) -> Result<(), Unknown> {
    check(key, &[LAYERS_LABEL, PREINIT])
}

/// The keys of [`ANNOTATIONS`].
const KEYS: [&str; ANNOTATIONS.len()] = {
    let mut keys = [""; ANNOTATIONS.len()];
    let mut at = 0;
    while at < keys.len() {
        keys[at] = ANNOTATIONS[at].key;
        at += 1;
    }
    keys
};

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

    fn refusal(key: &str) -> String {
        check_annotation(&format!("{PREFIX}{key}")).expect_err("is refused").to_string()
    }

    #[test]
    fn each_key_is_there_once_in_its_order_and_passes() {
        assert!(KEYS.is_sorted() && KEYS.windows(2).all(|two| two[0] != two[1]), "{KEYS:?}");
        for Annotation { key, sets } in ANNOTATIONS {
            assert!(key.starts_with(PREFIX) && !sets.is_empty());
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
        for key in KEYS {
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
