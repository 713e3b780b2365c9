//! Destinations of sockets.

use std::fmt;

use provided::ALLOW_CONNECT;

use crate::host::{Host, Ports};
use crate::text::as_text;

/// A protocol of sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Destination of sockets: `HOST:PORT`, with `/udp` at the end for UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The host.
    pub host: Host,
    /// The ports.
    pub ports: Ports,
    /// The protocol.
    pub protocol: Protocol,
}

as_text!(Target, ALLOW_CONNECT);

/// Splits the protocol from the end of an entry.
pub(crate) fn protocol(entry: &str) -> (&str, Protocol) {
    let without = |end| entry.strip_suffix(end);
    match (without("/udp"), without("/tcp")) {
        (Some(rest), _) => (rest, Protocol::Udp),
        (_, Some(rest)) => (rest, Protocol::Tcp),
        (None, None) => (entry, Protocol::Tcp),
    }
}

impl Target {
    fn parse(entry: &str) -> Option<Target> {
        let (rest, protocol) = protocol(entry);
        let (host, ports) = rest.rsplit_once(':')?;
        // An address of IPv6 is in brackets, so that its end is no port.
        let is_bare = host.contains(':') && !host.starts_with('[');
        let host = Host::parse(host).filter(|_| !is_bare)?;
        Some(Target { host, ports: Ports::parse(ports)?, protocol })
    }

    /// Whether everything of the other target is of this one.
    pub fn covers(&self, other: &Target) -> bool {
        self.protocol == other.protocol
            && self.ports.cover(other.ports)
            && self.host.covers(&other.host)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
        })
    }
}

impl Protocol {
    pub(crate) fn end(self) -> &'static str {
        match self {
            Protocol::Tcp => "",
            Protocol::Udp => "/udp",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}{}", self.host, self.ports, self.protocol.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_target_is_written_as_it_is_read() {
        for text in [
            "10.0.0.0/8:5432",
            "redis:6379",
            "*.shop.svc:*",
            "*:443",
            "[fd00::/8]:53/udp",
            "[::1]:8000-8999",
            "10.0.0.1:53/udp",
        ] {
            assert_eq!(target(text).to_string(), text);
        }
        assert_eq!(target("Redis.:6379/tcp"), target("redis:6379"));
        assert_eq!(target("10.1.2.3/8:1"), target("10.0.0.0/8:1"));
        assert_eq!(target("[fd00::]/8:1"), target("[fd00::/8]:1"));
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for text in [
            "",
            "redis",
            "redis:",
            ":80",
            "redis:0",
            "redis:+80",
            "redis:9-8",
            "redis:65536",
            "fd00::1:80",
            "10.0.0.0/33:80",
            "a..b:80",
            "-a:80",
            "a b:80",
            "*a:80",
            "a.*:80",
            "10.0.0.300:80",
            "0x7f.1:80",
            "redis:80/sctp",
            "1:80",
            "http://a:80",
            "[redis:80",
        ] {
            let error = text.parse::<Target>().expect_err(text).to_string();
            assert!(error.contains("allowed is HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn a_range_covers_what_is_in_it() {
        for (wide, narrow) in [
            ("*:*", "10.0.0.0/8:1"),
            ("10.0.0.0/8:1-9", "10.2.0.0/16:2-3"),
            ("*.svc:80", "*.shop.svc:80"),
            ("*.svc:80", "a.svc:80"),
            ("10.0.0.0/8:80", "redis:80"),
        ] {
            assert!(target(wide).covers(&target(narrow)), "{wide} {narrow}");
        }
        for (wide, narrow) in [
            ("10.0.0.0/8:1", "*:1"),
            ("10.2.0.0/16:1", "10.0.0.0/8:1"),
            ("*.shop.svc:80", "*.svc:80"),
            ("redis:80", "10.0.0.1:80"),
            ("*:80", "*:80/udp"),
            ("*:80", "*:80-81"),
        ] {
            assert!(!target(wide).covers(&target(narrow)), "{wide} {narrow}");
        }
    }
}
