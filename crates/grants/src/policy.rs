//! The node's file: the most that guests may be granted (`ceiling`), and what those get that name nothing (`defaults`).
//!
//! ```toml
//! [ceiling]
//! profile = "baseline"
//! allow-connect = ["10.0.0.0/8:*"]
//!
//! [defaults]
//! profile = "restricted"
//!
//! [[rules]]                      # the first one that matches counts
//! namespace = "shop"
//! image = "registry.example/shop/*"
//! ceiling.allow-http = ["https://*.example.com"]
//! ```
//!
//! A rule replaces the keys that it has, and leaves the others as they are above.

use std::fmt;

use serde::Deserialize;

use crate::{Destinations, FileGrant, Giver, Granted, Network, Profile, Requested};

/// The node's file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    ceiling: Requested,
    defaults: Requested,
    rules: Vec<Rule>,
    /// Path of the file, for errors.
    #[serde(skip)]
    path: String,
}

/// A rule for some containers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rule {
    /// Namespaces of the Pod. `*` stands for any characters.
    namespace: Option<String>,
    /// Images.
    image: Option<String>,
    ceiling: Requested,
    defaults: Requested,
}

/// What a rule is chosen by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Subject<'a> {
    /// Namespace of the Pod, as CRI names it. Empty if there is no Pod.
    pub namespace: &'a str,
    /// Name of the image, as CRI names it. Empty if there is no Pod.
    pub image: &'a str,
}

/// Ceiling and defaults for one container.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    /// The ceiling.
    pub ceiling: Ceiling,
    /// The defaults.
    pub defaults: Requested,
}

/// The most that a guest may be granted.
#[derive(Debug, Clone)]
pub struct Ceiling {
    /// Where it is, for errors.
    pub(crate) place: String,
    pub(crate) requested: Requested,
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: line {line}, column {column}: {reason}")]
pub struct Malformed {
    path: String,
    line: usize,
    column: usize,
    reason: String,
}

impl Default for Ceiling {
    fn default() -> Ceiling {
        let place = format!("the node's default profile {}", Profile::default());
        Ceiling { place, requested: Requested::default() }
    }
}

impl Policy {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// The place of what is wrong, and the reason.
    pub fn parse(path: &str, text: &str) -> Result<Policy, Malformed> {
        let parsed = toml::from_str::<Policy>(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start).min(text.len());
            let before = text.get(..start).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let begin = before.rfind('\n').map_or(0, |at| at + 1);
            let column = before.get(begin..).unwrap_or_default().chars().count() + 1;
            let reason = error.message().split_whitespace().collect::<Vec<_>>().join(" ");
            Malformed { path: path.to_owned(), line, column, reason }
        })?;
        Ok(Policy { path: path.to_owned(), ..parsed })
    }

    /// Ceiling and defaults for a container.
    pub fn rules(&self, subject: Subject<'_>) -> Rules {
        let mut rules = self.rules.iter().zip(1..);
        let found = rules.find(|(rule, _)| rule.is_for(subject));
        let place = |name: &str| format!("{name} in {}", self.path);
        let top = || place("[ceiling]");
        let (ceiling, defaults, place) = match found {
            None => (self.ceiling.clone(), self.defaults.clone(), top()),
            Some((rule, number)) => (
                rule.ceiling.clone().or(&self.ceiling),
                rule.defaults.clone().or(&self.defaults),
                place(&format!("rule {number}{rule}")),
            ),
        };
        Rules { ceiling: Ceiling { place, requested: ceiling }, defaults }
    }
}

impl Rule {
    fn is_for(&self, subject: Subject<'_>) -> bool {
        let matches = |pattern: &Option<String>, text: &str| {
            pattern.as_ref().is_none_or(|pattern| is_like(pattern, text))
        };
        matches(&self.namespace, subject.namespace) && matches(&self.image, subject.image)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in [("namespace", &self.namespace), ("image", &self.image)] {
            if let Some(value) = value {
                write!(formatter, ", {name} {value:?}")?;
            }
        }
        Ok(())
    }
}

/// Whether a text is like a pattern, in which `*` stands for any characters.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

impl Ceiling {
    /// The profile: the default one if none is named.
    pub(crate) fn profile(&self) -> Profile {
        self.requested.profile.unwrap_or_default()
    }

    /// What it allows of the network: what it names, or else what its profile does.
    pub(crate) fn network(&self) -> Network {
        let Requested { allow_connect, allow_http, allow_listen, .. } = &self.requested;
        let (profile, giver) = (self.profile(), Giver::Node);
        let is_strict = profile == Profile::Restricted;
        let has_destinations = is_strict || allow_connect.is_some() || allow_http.is_some();
        let destinations = has_destinations.then(|| Destinations {
            connect: allow_connect.clone().map(|entries| Granted { entries, giver }),
            http: allow_http.clone().map(|entries| Granted { entries, giver }),
        });
        let listen = allow_listen.clone().map(|entries| Granted { entries, giver });
        let listen = listen.or_else(|| is_strict.then(Granted::nothing));
        Network { profile, destinations, listen }
    }

    /// The directories that it allows; `None` is every one.
    pub(crate) fn files(&self) -> Option<Vec<FileGrant>> {
        let is_strict = self.profile() == Profile::Restricted;
        self.requested.files.clone().or_else(|| is_strict.then(Vec::new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_as_a_glob_does() {
        for (pattern, text) in
            [("*", ""), ("*", "a"), ("a*", "a/b"), ("*/b*d", "a/bcd"), ("a", "a"), ("a*a", "aa")]
        {
            assert!(is_like(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("a", "ab"), ("a*a", "a"), ("*/b", "b"), ("", "a"), ("a*b*", "ac")]
        {
            assert!(!is_like(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn a_file_that_does_not_parse_is_refused_with_its_line_and_column() {
        for (text, expected) in [
            (
                "[ceiling]\nprofile = \"open\"\n",
                "/p.toml: line 2, column 11: \"open\" is not valid",
            ),
            (
                "[ceiling]\n\nallow-htp = []\n",
                "/p.toml: line 3, column 1: unknown field `allow-htp`",
            ),
            ("[ceiling]\nprofile = \n", "/p.toml: line 2, column 11: "),
            ("[[rules]]\nname = \"x\"\n", "/p.toml: line 2, column 1: unknown field `name`"),
            (
                "[ceiling]\nallow-http = [\n  \"https://a\",\n  \"b\"]\n",
                "/p.toml: line 2, column 14: \"b\" is not valid",
            ),
            ("rules = 7\n", "/p.toml: line 1, column 9: "),
        ] {
            let error = Policy::parse("/p.toml", text).expect_err(text).to_string();
            assert!(error.starts_with(expected) && !error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_replaces_the_keys_that_it_has() {
        let policy = Policy::parse(
            "/p.toml",
            r#"
            ceiling.profile = "baseline"
            ceiling.allow-connect = ["10.0.0.0/8:*"]
            [[rules]]
            namespace = "shop"
            image = "registry.example/*"
            ceiling.profile = "privileged"
            [[rules]]
            namespace = "sh*"
            ceiling.allow-connect = []
            "#,
        )
        .expect("parses");
        let rules = |namespace, image| policy.rules(Subject { namespace, image }).ceiling;
        let first = rules("shop", "registry.example/a:1");
        assert_eq!(first.profile(), Profile::Privileged);
        assert_eq!(first.requested.allow_connect.map(|it| it.len()), Some(1));
        assert!(first.place.contains("rule 1, namespace \"shop\", image"), "{}", first.place);
        assert_eq!(rules("shop", "other").requested.allow_connect.map(|it| it.len()), Some(0));
        assert_eq!(rules("other", "other").requested.allow_connect.map(|it| it.len()), Some(1));
    }
}
