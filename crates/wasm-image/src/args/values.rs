//! Values of single options.

use std::fmt;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// `SRC:DEST`: a file of this machine, and its absolute path in the image.
#[derive(Clone, Debug, PartialEq)]
pub struct FileCopy {
    /// The file to read.
    pub source: PathBuf,
    /// Path in the image, without the leading slash.
    pub destination: PathBuf,
}

impl std::str::FromStr for FileCopy {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (source, destination) = text.rsplit_once(':').context("expected SRC:DEST")?;
        let path = destination.strip_prefix('/').context("DEST must be an absolute path")?;
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        ensure!(path.split('/').all(plain), "DEST must name a file, without `.` and `..`");
        Ok(Self { source: source.into(), destination: path.into() })
    }
}

/// `K=V`. `V` may be empty and may contain `=`.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyValue {
    /// The part before the first `=`.
    pub key: String,
    /// The part after it.
    pub value: String,
}

impl std::str::FromStr for KeyValue {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (key, value) = text.split_once('=').context("expected K=V")?;
        ensure!(!key.is_empty(), "expected K=V with a name before the `=`");
        Ok(Self { key: key.into(), value: value.into() })
    }
}

/// `PORT` or `PORT/tcp|udp|sctp`, as in `EXPOSE` of a Dockerfile.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    number: u16,
    protocol: String,
}

impl std::str::FromStr for Port {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let number = number.parse().ok().filter(|it| *it != 0);
        let known = ["tcp", "udp", "sctp"].contains(&protocol);
        let number = number.filter(|_| known).context("expected PORT or PORT/tcp|udp|sctp")?;
        Ok(Self { number, protocol: protocol.into() })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_copy_needs_an_absolute_destination() {
        let copy: FileCopy = "a:b/app.wasm:/bin/app.wasm".parse().unwrap();
        assert_eq!(copy.source, PathBuf::from("a:b/app.wasm"));
        assert_eq!(copy.destination, PathBuf::from("bin/app.wasm"));
        for bad in ["app.wasm", "app.wasm:app.wasm", "app.wasm:/", "app.wasm:/../x"] {
            assert!(bad.parse::<FileCopy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_may_be_empty_but_not_nameless() {
        let parse = |text: &str| text.parse::<KeyValue>().map(|it| (it.key, it.value)).ok();
        assert_eq!(parse("A=b=c"), Some(("A".into(), "b=c".into())));
        assert_eq!(parse("A="), Some(("A".into(), String::new())));
        assert_eq!(parse("A"), None);
        assert_eq!(parse("=b"), None);
    }

    #[test]
    fn a_port_has_a_protocol() {
        let parse = |text: &str| text.parse::<Port>().map(|it| it.to_string()).ok();
        assert_eq!(parse("8080"), Some("8080/tcp".into()));
        assert_eq!(parse("53/udp"), Some("53/udp".into()));
        for bad in ["", "0", "65536", "80/http", "http"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
