//! Hosts and ports of destinations.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// Longest name (RFC 1035, section 2.3.4).
const NAME: usize = 253;

/// Length of the prefixes with which addresses of IPv6 have one of IPv4 at their end.
const EMBEDDED: u8 = 96;

/// A range of ports. `first` is at most `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

/// A host, or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// Every host: `*`.
    Any,
    /// The addresses of a range.
    Net(IpNet),
    /// A name, in lower case. If it begins with `*.`, every name that ends with what follows.
    Name(String),
}

impl Ports {
    /// Every port.
    pub const ALL: Ports = Ports { first: 0, last: u16::MAX };

    /// One port.
    pub const fn one(port: u16) -> Ports {
        Ports { first: port, last: port }
    }

    /// Whether the port is one of them.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether one of the other ports is among these.
    pub fn overlap(self, other: Ports) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// Whether all of the other ports are among these.
    pub fn cover(self, other: Ports) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// Parses `443`, `8000-8999` or `*`.
    pub(crate) fn parse(text: &str) -> Option<Ports> {
        if text == "*" {
            return Some(Ports::ALL);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = Ports { first: port(first)?, last: port(last)? };
        (ports.first <= ports.last).then_some(ports)
    }
}

/// Parses the number of a port: digits alone, not 0.
fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port != 0)
}

/// The form of an address that decides: IPv4 in IPv6 (RFC 4291, section 2.5.5.2; RFC 6052, section 2.1) is that of IPv4.
pub(crate) fn canonical(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => embedded(v6).map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 => v4,
    }
}

/// The same for a range: one of IPv4 in IPv6 is that of IPv4, because it is compared with canonical addresses.
fn canonical_range(net: IpNet) -> IpNet {
    let net = net.trunc();
    match (canonical(net.network()), net.prefix_len().checked_sub(EMBEDDED)) {
        (IpAddr::V4(v4), Some(length)) if matches!(net, IpNet::V6(_)) => {
            Ipv4Net::new(v4, length).map_or(net, IpNet::V4)
        }
        _ => net,
    }
}

/// The address of IPv4 in one with the well-known prefix of NAT64.
fn embedded(address: Ipv6Addr) -> Option<std::net::Ipv4Addr> {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            Some(std::net::Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        _ => None,
    }
}

/// A name as names are compared: in lower case, without the dot of the root.
pub(crate) fn plain(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

impl Host {
    /// Parses `*`, a CIDR, an address, a name or `*.` with the end of a name.
    pub(crate) fn parse(text: &str) -> Option<Host> {
        if text == "*" {
            return Some(Host::Any);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let bare = bare.or_else(|| text.strip_prefix('[').filter(|rest| rest.contains("]/")));
        let text = bare.map_or_else(|| text.to_owned(), |bare| bare.replace(']', ""));
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Host::Net(IpNet::from(canonical(address))));
        }
        if text.contains('/') || text.contains(':') {
            return Some(Host::Net(canonical_range(text.parse().ok()?)));
        }
        let name = plain(&text);
        is_name(name.strip_prefix("*.").unwrap_or(&name)).then_some(Host::Name(name))
    }

    /// Whether it is this address, whatever its name is.
    pub fn is_address(&self, address: IpAddr) -> bool {
        match self {
            Host::Any => true,
            Host::Net(net) => net.contains(&canonical(address)),
            Host::Name(_) => false,
        }
    }

    /// Whether it has this name.
    pub fn is_called(&self, name: &str) -> bool {
        match self {
            Host::Any => true,
            Host::Net(_) => false,
            Host::Name(own) => matches(own, &plain(name)),
        }
    }

    /// Whether everything of the other host is of this one. A name may turn out to be an address of a range, so a range
    /// covers it; its addresses are compared at each call.
    pub fn covers(&self, other: &Host) -> bool {
        match (self, other) {
            (Host::Any, _) | (Host::Net(_), Host::Name(_)) => true,
            (_, Host::Any) | (Host::Name(_), Host::Net(_)) => false,
            (Host::Net(own), Host::Net(other)) => own.contains(other),
            (Host::Name(own), Host::Name(other)) => matches(own, other),
        }
    }

    /// Whether it names that address of a range of its own, and does not only include it.
    pub(crate) fn names(&self, address: IpAddr, range: IpNet) -> bool {
        match self {
            Host::Any => false,
            Host::Net(net) => range.contains(net) && self.is_address(address),
            Host::Name(name) => name == "localhost" && address.is_loopback(),
        }
    }
}

/// Whether a name, or everything that another pattern matches, is matched by the pattern.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(end) => name.len() > end.len() && name.ends_with(end),
        None => pattern == name,
    }
}

/// Whether it is a host name (RFC 1123, section 2.1), with the underscores that names of services have. A name whose last
/// label is a number is refused, because resolvers read it as an address of IPv4.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let ends = [label.chars().next(), label.chars().last()];
        ends.iter().all(|end| end.is_some_and(|end| end != '-'))
            && label.len() <= 63
            && label.chars().all(|it| it.is_ascii_alphanumeric() || it == '-' || it == '_')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit()) || last.starts_with("0x");
    text.len() <= NAME && !is_number && text.split('.').all(is_label)
}

impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (*self, self.first, self.last) {
            (Ports::ALL, _, _) => formatter.write_str("*"),
            (_, first, last) if first == last => write!(formatter, "{first}"),
            (_, first, last) => write!(formatter, "{first}-{last}"),
        }
    }
}

/// A range as an address if it has only one, and IPv6 in brackets.
pub(crate) fn shown(net: &IpNet) -> String {
    let is_one = net.prefix_len() == net.max_prefix_len();
    let text = if is_one { net.addr().to_string() } else { net.to_string() };
    match net {
        IpNet::V4(_) => text,
        IpNet::V6(_) => format!("[{text}]"),
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Any => formatter.write_str("*"),
            Host::Net(net) => formatter.write_str(&shown(net)),
            Host::Name(name) => formatter.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_matched_as_a_whole_and_a_wildcard_at_its_dot() {
        let all = Host::parse("*.shop.svc").expect("a host");
        for name in ["api.shop.svc", "db-0.db.shop.svc.", "API.SHOP.SVC"] {
            assert!(all.is_called(name), "{name}");
        }
        for name in ["shop.svc", "evilshop.svc", "api.shop.svc.example.com", ".shop.svc"] {
            assert!(!all.is_called(name), "{name}");
        }
        assert!(!Host::parse("redis").expect("a host").is_called("redis.other"));
    }

    #[test]
    fn an_address_of_ipv4_in_ipv6_is_that_of_ipv4() {
        let net = Host::parse("10.0.0.0/8").expect("a host");
        for address in ["10.1.1.1", "::ffff:10.1.1.1", "64:ff9b::10.1.1.1"] {
            assert!(net.is_address(address.parse().expect("an address")), "{address}");
        }
        for range in ["[::ffff:10.0.0.0/104]", "[64:ff9b::10.0.0.0]/104"] {
            assert_eq!(Host::parse(range), Some(net.clone()), "{range}");
        }
        assert_eq!(Host::parse("[64:ff9b::/96]"), Host::parse("0.0.0.0/0"));
        assert_eq!(Host::parse("[::/0]").map(|it| it.to_string()).as_deref(), Some("[::/0]"));
    }
}
