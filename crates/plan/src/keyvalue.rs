//! Where the store of `wasi:keyvalue` is, as an annotation says.

use std::fmt;
use std::path::PathBuf;

use grants::{Host, Target};
use provided::{KEYVALUE, OF_POD, SettingError};
use serde::{Deserialize, Serialize};
use url::{ParseError, Url};

/// The port of a URL that has none (IANA, URI scheme `redis`).
const PORT: u16 = 6379;

/// The longest prefix of keys, in bytes.
const PREFIX: usize = 128;

/// A store that outlives the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyValue {
    /// A file in the container.
    File(PathBuf),
    /// A database of Redis or Valkey.
    Redis(Redis),
}

/// A database of Redis or Valkey: `redis://[USER@]HOST[:PORT][/DATABASE][?prefix=PREFIX]`, and `rediss://` for TLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redis {
    /// Whether TLS is used.
    pub tls: bool,
    /// The user; without one, the server's default user.
    pub user: Option<String>,
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The number of the database.
    pub database: u32,
    /// The beginning of each key in the database, which the guest does not see.
    pub prefix: String,
    /// The file with the password, in the container.
    pub password: Option<PathBuf>,
    /// What it is for grants.
    pub target: Target,
}

impl KeyValue {
    /// What the annotation says: an absolute path, which must not have a NUL byte, or a URL. A URL must not have a password,
    /// because everyone who may see the Pod can read its annotations.
    ///
    /// # Errors
    /// For anything else. The error repeats nothing that is no path: errors end in events and logs, and what is no proper URL may
    /// have a password anywhere.
    pub fn annotated(value: &str) -> Result<KeyValue, SettingError> {
        match value.starts_with('/') {
            true if value.contains('\0') => Err(OF_POD.refused(KEYVALUE, value)),
            true => Ok(KeyValue::File(value.into())),
            false => {
                let redis = Redis::parse(value).map(KeyValue::Redis);
                redis.map_err(|part| OF_POD.refused_part(KEYVALUE, part))
            }
        }
    }

    /// Where the runtime connects to for it.
    pub fn target(&self) -> Option<&Target> {
        match self {
            KeyValue::File(_) => None,
            KeyValue::Redis(redis) => Some(&redis.target),
        }
    }
}

impl Redis {
    /// The error is the part that is not valid.
    fn parse(value: &str) -> Result<Redis, &'static str> {
        let is_url = value.split_once("://").is_some_and(|(scheme, _)| {
            scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        });
        if !is_url {
            return Err("the value");
        }
        // An escaped character would be another one for the server than for the reader.
        if value.contains('%') || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a character of the URL");
        }
        let url = Url::parse(value).map_err(|error| match error {
            ParseError::InvalidPort => "the port of the URL",
            _ => "the host of the URL",
        })?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err("the scheme of the URL"),
        };
        if url.password().is_some() {
            return Err("the password in the URL");
        }
        // What is escaped now was not in the value.
        if url.username().contains('%') {
            return Err("the user of the URL");
        }
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(str::to_owned);
        let (target, host) = target(&url)?;
        let port = url.port().unwrap_or(PORT);
        let database = database(url.path()).ok_or("the database of the URL")?;
        let prefix = match url.query() {
            None => "",
            Some(query) => {
                let prefix = query.strip_prefix("prefix=").filter(|prefix| is_prefix(prefix));
                prefix.ok_or("the query of the URL")?
            }
        };
        if url.fragment().is_some() {
            return Err("the fragment of the URL");
        }
        let (prefix, password) = (prefix.to_owned(), None);
        Ok(Redis { tls, user, host, port, database, prefix, password, target })
    }
}

/// Where a URL leads to, and the host as the look-up wants it.
fn target(url: &Url) -> Result<(Target, String), &'static str> {
    let invalid = "the host of the URL";
    let host = url.host_str().ok_or(invalid)?;
    let port = match url.port() {
        Some(0) => return Err("the port of the URL"),
        port => port.unwrap_or(PORT),
    };
    let target: Target = format!("{host}:{port}").parse().map_err(|_| invalid)?;
    let host = match &target.host {
        Host::Name(name) if !name.starts_with('*') => name.clone(),
        Host::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().to_string(),
        _ => return Err(invalid),
    };
    Ok((target, host))
}

/// The number in the path of a URL.
fn database(path: &str) -> Option<u32> {
    match path.strip_prefix('/').unwrap_or(path) {
        "" => Some(0),
        digits if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok(),
        _ => None,
    }
}

/// Whether none of its characters has a meaning in a pattern of Redis (`SCAN`, option `MATCH`) or in a URL.
fn is_prefix(prefix: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    (1..=PREFIX).contains(&prefix.len()) && prefix.bytes().all(is_allowed)
}

impl fmt::Display for Redis {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        write!(to, "{scheme}://{}/{}", self.target, self.database)?;
        match self.prefix.as_str() {
            "" => Ok(()),
            prefix => write!(to, "?prefix={prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(value: &str) -> Redis {
        match KeyValue::annotated(value) {
            Ok(KeyValue::Redis(redis)) => redis,
            other => panic!("{value}: {other:?}"),
        }
    }

    #[test]
    fn a_url_names_a_server_a_user_a_database_and_a_prefix() {
        let parsed = redis("rediss://app@Cache.shop.svc:7000/3?prefix=orders:");
        assert!(parsed.tls);
        assert_eq!(parsed.user.as_deref(), Some("app"));
        assert_eq!((parsed.host.as_str(), parsed.port), ("cache.shop.svc", 7000));
        assert_eq!((parsed.database, parsed.prefix.as_str()), (3, "orders:"));
        assert_eq!(parsed.to_string(), "rediss://cache.shop.svc:7000/3?prefix=orders:");

        let parsed = redis("redis://[fd00::1]");
        assert_eq!((parsed.tls, parsed.user.as_deref()), (false, None));
        assert_eq!((parsed.host.as_str(), parsed.port, parsed.database), ("fd00::1", 6379, 0));
        assert_eq!(redis("redis://10.0.0.1:1/").to_string(), "redis://10.0.0.1:1/0");
    }

    #[test]
    fn a_path_is_a_file_and_nothing_else_is_a_store() {
        assert_eq!(KeyValue::annotated("/data/a@b"), Ok(KeyValue::File("/data/a@b".into())));
        for value in [
            "",
            "store",
            "/a\0",
            "redis://",
            "redis:///0",
            "redis://user:secret@host",
            "redis://:secret@host",
            "redis://a%62@host",
            "redis://host:0",
            "redis://host:65536",
            "redis://*:1",
            "redis://*.shop:1",
            "redis://host/one",
            "redis://host/1/2",
            "redis://host/-1",
            "redis://host/+5",
            "redis://host//5",
            "redis://host/4294967296",
            "redis://ann|b@host",
            "redis://ann b@host",
            "redis://\u{e4}@host",
            "redis://host/0\n",
            " redis://host",
            "redis://host?prefix=",
            "redis://host?prefix=a*",
            "redis://host?prefix=a&other=b",
            "redis://host?protocol=3",
            "redis://host#a",
            "http://host",
            "unix:///run/redis.sock",
        ] {
            KeyValue::annotated(value).expect_err(value);
        }
    }

    #[test]
    fn an_error_names_the_part_that_is_not_valid_and_shows_nothing_of_it() {
        for (value, part) in [
            ("redis://u:p@secret@host:1/0", "the password in the URL"),
            ("redis://:secret@host", "the password in the URL"),
            ("redis://:secret@host:x", "the port of the URL"),
            ("redis://user:secret/x@host", "the port of the URL"),
            ("redis:app:secret@host", "the value"),
            ("app:secret@host:6379", "the value"),
            ("app:secret://host", "the value"),
            ("secret", "the value"),
            ("redis-secret://host", "the scheme of the URL"),
            ("redis://secret|@host", "the user of the URL"),
            ("redis://sec%72et@host", "a character of the URL"),
            ("redis://host/secret", "the database of the URL"),
            ("redis://host?password=secret", "the query of the URL"),
            ("redis://host/0?prefix=a&auth=secret", "the query of the URL"),
            ("redis://host#secret", "the fragment of the URL"),
            ("redis://*.secret", "the host of the URL"),
        ] {
            let text = KeyValue::annotated(value).expect_err("is refused").to_string();
            let start =
                format!("annotation wasmtime.shim/keyvalue: {part} is not valid; allowed is an");
            assert!(text.starts_with(&start), "{value}: {text}");
            assert!(!text.contains("secret") && !text.contains("%72"), "{value}: {text}");
        }
        let text = KeyValue::annotated("/a\0").expect_err("is refused").to_string();
        assert!(text.contains(r#""/a\0" is not valid"#), "{text}");
    }
}
