//! The part of an interface's version that linking needs.

/// Version of a package (Semantic Versioning 2.0.0), without build metadata. The order is that of releases. The order
/// of drafts of one release has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    numbers: [u64; 3],
    /// The part after the hyphen. It is empty for a release.
    draft: String,
}

impl Version {
    /// Parses `0.2.3` or `0.3.0-rc-2025-09-16`. A version must have three numbers.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.split('+').next()?;
        let (numbers, draft) = text.split_once('-').unwrap_or((text, ""));
        let numbers: Vec<u64> =
            numbers.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        Some(Self { numbers: numbers.try_into().ok()?, draft: draft.into() })
    }

    /// Returns whether one version satisfies an import of the other, as Wasmtime links them: the major version must be
    /// the same, and below 1.0 the minor version too. A draft is compatible only with itself.
    pub fn is_compatible(&self, other: &Self) -> bool {
        if !self.draft.is_empty() || !other.draft.is_empty() {
            return self == other;
        }
        match (self.numbers, other.numbers) {
            ([0, 0, _], _) => self == other,
            ([0, minor, _], [major, other, _]) => major == 0 && minor == other,
            ([major, ..], [other, ..]) => major == other,
        }
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if self.draft.is_empty() { Ok(()) } else { write!(f, "-{}", self.draft) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_one_track_stand_for_each_other() {
        let fit = |a, b| Version::parse(a).unwrap().is_compatible(&Version::parse(b).unwrap());
        assert!(fit("0.2.12", "0.2.0") && fit("1.2.0", "1.9.3") && fit("0.3.0-rc-1", "0.3.0-rc-1"));
        assert!(!fit("0.2.12", "0.3.0") && !fit("1.0.0", "2.0.0") && !fit("0.0.1", "0.0.2"));
        assert!(!fit("0.3.0", "0.3.0-rc-1") && !fit("0.3.0-rc-1", "0.3.0"));
    }

    #[test]
    fn what_is_no_version_is_none() {
        for text in ["", "1", "1.2", "1.2.3.4", "a.b.c", "1.2.x"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
