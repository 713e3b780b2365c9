//! Addresses where a guest may listen.

use std::fmt;

use ipnet::IpNet;
use provided::ALLOW_LISTEN;

use crate::host::{Host, Ports, shown};
use crate::network::{Protocol, protocol};
use crate::text::as_text;

/// Where a guest may listen: `PORT` or `ADDRESS:PORT`, with `/udp` at the end for UDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// The address. `None` is every one.
    pub net: Option<IpNet>,
    /// The ports.
    pub ports: Ports,
    /// The protocol.
    pub protocol: Protocol,
}

as_text!(Listen, ALLOW_LISTEN);

impl Listen {
    fn parse(entry: &str) -> Option<Listen> {
        let (rest, protocol) = protocol(entry);
        let (net, ports) = match rest.rsplit_once(':') {
            None => (None, rest),
            Some((host, _)) if host.contains(':') && !host.starts_with('[') => return None,
            Some((host, ports)) => match Host::parse(host)? {
                Host::Any => (None, ports),
                // A socket that is bound to an unspecified address listens at every one.
                Host::Net(net) if net.addr().is_unspecified() => (None, ports),
                Host::Net(net) => (Some(net), ports),
                Host::Name(_) => return None,
            },
        };
        Some(Listen { net, ports: Ports::parse(ports)?, protocol })
    }

    /// Whether everything of the other one is of this one.
    pub fn covers(&self, other: &Listen) -> bool {
        let net = match (self.net, other.net) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => own.contains(&other),
        };
        net && self.protocol == other.protocol && self.ports.cover(other.ports)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(net) = &self.net {
            write!(formatter, "{}:", shown(net))?;
        }
        write!(formatter, "{}{}", self.ports, self.protocol.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(text: &str) -> Listen {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn an_address_is_written_as_it_is_read() {
        for text in ["8080", "*", "127.0.0.1:9000-9010", "[::1]:53/udp", "10.0.0.0/8:80", "53/udp"]
        {
            assert_eq!(listen(text).to_string(), text);
        }
        assert_eq!(listen("*:80"), listen("80/tcp"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["", "0", "a:80", "localhost:80", "::1:80", "80-70", "80/sctp", "127.0.0.1"] {
            let error = text.parse::<Listen>().expect_err(text).to_string();
            assert!(error.contains("allowed is PORT or ADDRESS:PORT"), "{error}");
        }
    }

    #[test]
    fn one_address_does_not_cover_all_of_them() {
        assert!(listen("80").covers(&listen("127.0.0.1:80")));
        assert!(!listen("127.0.0.1:80").covers(&listen("80")));
        assert!(!listen("80").covers(&listen("80/udp")));
    }
}
