//! Where the store of `wasi:keyvalue` is, as an annotation says.

use std::fmt;
use std::path::PathBuf;

use grants::{Host, Target};
use provided::{KEYVALUE, OF_POD, SettingError};
use serde::{Deserialize, Serialize};
use url::Url;

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
    /// For anything else. The error does not repeat a password.
    pub fn annotated(value: &str) -> Result<KeyValue, SettingError> {
        KeyValue::parse(value).ok_or_else(|| OF_POD.refused(KEYVALUE, &without_secrets(value)))
    }

    /// Where the runtime connects to for it.
    pub fn target(&self) -> Option<&Target> {
        match self {
            KeyValue::File(_) => None,
            KeyValue::Redis(redis) => Some(&redis.target),
        }
    }

    fn parse(value: &str) -> Option<KeyValue> {
        match value.starts_with('/') {
            true => Some(KeyValue::File(value.into())).filter(|_| !value.contains('\0')),
            false => Redis::parse(value).map(KeyValue::Redis),
        }
    }
}

impl Redis {
    fn parse(value: &str) -> Option<Redis> {
        let url = Url::parse(value).ok()?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return None,
        };
        // An escaped character would be another one for the server than for the reader.
        let is_plain = !value.contains('%') && url.password().is_none() && url.fragment().is_none();
        let user = Some(url.username()).filter(|user| !user.is_empty()).map(str::to_owned);
        let port = url.port().unwrap_or(PORT);
        let target: Target = format!("{}:{port}", url.host_str()?).parse().ok()?;
        let host = match &target.host {
            Host::Name(name) if !name.starts_with('*') => name.clone(),
            Host::Net(net) if net.prefix_len() == net.max_prefix_len() => net.addr().to_string(),
            _ => return None,
        };
        let database = url.path().trim_start_matches('/');
        let database = if database.is_empty() { 0 } else { database.parse().ok()? };
        let prefix = match url.query() {
            None => "",
            Some(query) => query.strip_prefix("prefix=").filter(|prefix| is_prefix(prefix))?,
        };
        let (prefix, password) = (prefix.to_owned(), None);
        is_plain.then_some(Redis { tls, user, host, port, database, prefix, password, target })
    }
}

/// Whether none of its characters has a meaning in a pattern of Redis (`SCAN`, option `MATCH`) or in a URL.
fn is_prefix(prefix: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/".contains(&byte);
    (1..=PREFIX).contains(&prefix.len()) && prefix.bytes().all(is_allowed)
}

/// A value of the annotation without what may be a password: errors end in events and logs.
fn without_secrets(value: &str) -> String {
    match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, rest)), Some((_, host))) if rest.contains('@') => {
            format!("{scheme}://***@{host}")
        }
        _ => value.to_owned(),
    }
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
        match KeyValue::parse(value) {
            Some(KeyValue::Redis(redis)) => redis,
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
        assert_eq!(KeyValue::parse("/data/a@b"), Some(KeyValue::File("/data/a@b".into())));
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
            "redis://host?prefix=",
            "redis://host?prefix=a*",
            "redis://host?prefix=a&other=b",
            "redis://host?protocol=3",
            "redis://host#a",
            "http://host",
            "unix:///run/redis.sock",
        ] {
            assert_eq!(KeyValue::parse(value), None, "{value:?}");
        }
    }

    #[test]
    fn an_error_shows_no_password() {
        for (value, shown) in [
            ("redis://u:p@ss@host:1/0", "redis://***@host:1/0"),
            ("redis://:secret@host", "redis://***@host"),
            ("redis://host:0", "redis://host:0"),
            ("/data/a@b", "/data/a@b"),
        ] {
            assert_eq!(without_secrets(value), shown);
        }
    }
}
