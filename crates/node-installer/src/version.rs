//! containerd's version.

use std::fmt;
use std::str::FromStr;

/// A version of containerd. It determines how containerd is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Major version, 1 or 2.
    pub major: u32,
    minor: u32,
    text: String,
}

impl Version {
    /// Parses the output of `containerd --version`: `containerd github.com/containerd/containerd/v2 v2.1.4 75cb2b7`.
    pub fn of_output(line: &str) -> Option<Self> {
        line.split_whitespace().nth(2)?.parse().ok()
    }

    /// Returns the newest version of the configuration that it reads and that older releases of the same major version
    /// also read.
    pub fn config_version(&self) -> i64 {
        if self.major == 1 { 2 } else { 3 }
    }

    /// Returns whether `imports` merge an imported file into the configuration. Before 2.0, a plugin's section in an
    /// imported file replaces the whole section.
    pub fn merges_imports(&self) -> bool {
        self.major >= 2
    }

    /// Returns whether `runtime_path` has an effect. Until 1.6 it has none, and the path must be the type.
    pub fn heeds_runtime_path(&self) -> bool {
        (self.major, self.minor) > (1, 6)
    }

    /// Returns whether the default runtimes stay if the configuration has a table of runtimes. Before 2.0, the table
    /// replaces them.
    pub fn keeps_default_runtimes(&self) -> bool {
        self.major >= 2
    }
}

impl FromStr for Version {
    type Err = String;

    /// Parses `1.6.20~ds1`, `v2.1.4-k3s1` or `1.7`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('v');
        let mut numbers = text.split('.').map(|number| number.parse::<u32>());
        match (numbers.next(), numbers.next()) {
            (Some(Ok(major)), Some(Ok(minor))) if major >= 1 => {
                Ok(Self { major, minor, text: text.to_owned() })
            }
            _ => Err(format!(
                "{text:?} is not a version of containerd; allowed is one such as 1.7.27 or 2.1.4"
            )),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_of_all_packagers_are_read() {
        let of = |word: &str| {
            let line = format!("containerd github.com/containerd/containerd {word} abc");
            Version::of_output(&line).map(|it| (it.major, it.to_string()))
        };
        assert_eq!(of("1.6.20~ds1"), Some((1, "1.6.20~ds1".into())));
        assert_eq!(of("v1.7.27"), Some((1, "1.7.27".into())));
        assert_eq!(of("v2.1.5-k3s1"), Some((2, "2.1.5-k3s1".into())));
        assert_eq!(of("2.4.2"), Some((2, "2.4.2".into())));
        assert_eq!(of("devel"), None);
        assert_eq!(Version::of_output("containerd"), None);
    }
}
