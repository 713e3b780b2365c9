//! Destinations of HTTP requests.

use std::fmt;

use provided::ALLOW_HTTP;

use crate::host::{Host, Ports};
use crate::text::as_text;

/// The scheme of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `http`.
    Http,
    /// `https`.
    Https,
}

/// Destination of HTTP requests: `SCHEME://HOST[:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The scheme.
    pub scheme: Scheme,
    /// The host. A range is of one address.
    pub host: Host,
    /// The ports.
    pub ports: Ports,
}

as_text!(Origin, ALLOW_HTTP);

impl Scheme {
    /// Name of the scheme.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }

    /// Port of a URL without one.
    pub fn port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }
}

impl Origin {
    fn parse(entry: &str) -> Option<Origin> {
        let (scheme, rest) = entry.split_once("://")?;
        let all = [Scheme::Http, Scheme::Https];
        let scheme = all.into_iter().find(|it| it.name().eq_ignore_ascii_case(scheme))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, ports) = match rest.rsplit_once(':') {
            Some((host, ports)) if !ports.ends_with(']') => (host, Ports::parse(ports)?),
            _ => (rest, Ports::one(scheme.port())),
        };
        // A path cannot be granted, and neither can a range, which no URL has.
        let is_plain = !host.contains('/') && (!host.contains(':') || host.starts_with('['));
        Some(Origin { scheme, host: Host::parse(host).filter(|_| is_plain)?, ports })
    }

    /// Whether everything of the other origin is of this one.
    pub fn covers(&self, other: &Origin) -> bool {
        self.scheme == other.scheme
            && self.ports.cover(other.ports)
            && self.host.covers(&other.host)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.scheme.name(), self.host)?;
        match self.ports == Ports::one(self.scheme.port()) {
            true => Ok(()),
            false => write!(formatter, ":{}", self.ports),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_it_is_read() {
        for text in [
            "https://api.example.com",
            "http://*.shop.svc",
            "http://*.shop.svc:8080",
            "https://*",
            "https://*:*",
            "http://10.0.0.1:8000-8999",
            "http://[::1]:8080",
            "http://[::1]",
        ] {
            let origin: Origin = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(origin.to_string(), text);
        }
        let read = |text: &str| text.parse::<Origin>().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(read("HTTPS://Api.example.com:443/"), read("https://api.example.com"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in [
            "",
            "api.example.com",
            "ftp://a",
            "http://",
            "http://a/b",
            "http://a:0",
            "http://user@a",
            "http://10.0.0.0/8",
            "http://::1",
            "http://a?b",
            "http://a#b",
        ] {
            let error = text.parse::<Origin>().expect_err(text).to_string();
            assert!(error.contains("allowed is SCHEME://HOST[:PORT]"), "{error}");
        }
    }
}
