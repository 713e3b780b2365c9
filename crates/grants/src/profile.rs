//! Profiles, named as those of Kubernetes' Pod Security Standards.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use provided::GRANT_PROFILE;

use crate::network::Ports;
use crate::text::{Invalid, as_text};

/// What a guest may do that names nothing itself. The order is from the strictest to the widest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Stdio, environment, and what is granted by name.
    Restricted,
    /// What the namespaces and mounts of the Pod allow, except the metadata services of clouds.
    #[default]
    Baseline,
    /// What the namespaces and mounts of the Pod allow.
    Privileged,
}

as_text!(Profile);

impl Profile {
    /// Name of the profile.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Restricted => "restricted",
            Profile::Baseline => "baseline",
            Profile::Privileged => "privileged",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Profile, Invalid> {
        let all = [Profile::Restricted, Profile::Baseline, Profile::Privileged];
        let found = all.into_iter().find(|profile| profile.name() == text);
        found.ok_or_else(|| Invalid { entry: text.to_owned(), allowed: GRANT_PROFILE.allowed })
    }
}

/// Metadata services of clouds, which give credentials of the node to every process that can reach them.
///
/// Other link-local addresses are not here: NodeLocal DNS (169.254.20.10), Amazon's DNS and time (169.254.169.253, .123),
/// and EKS Pod Identity (169.254.170.23), which gives a Pod its own credentials and no others.
const METADATA: [(&str, Ports); 13] = [
    // Amazon, Azure, Google, Oracle, OpenStack, IBM, DigitalOcean, Hetzner and others.
    ("169.254.169.254/32", Ports::ALL),
    // Amazon EC2, IPv6.
    ("fd00:ec2::254/128", Ports::ALL),
    // Amazon ECS, credentials of tasks.
    ("169.254.170.2/32", Ports::ALL),
    // Azure's WireServer. Its DNS, on port 53 of the same address, is no metadata service.
    ("168.63.129.16/32", Ports { first: 80, last: 80 }),
    ("168.63.129.16/32", Ports { first: 32526, last: 32526 }),
    // Google, IPv6.
    ("fd20:ce::254/128", Ports::ALL),
    // Alibaba.
    ("100.100.100.200/32", Ports::ALL),
    // Oracle, IPv6.
    ("fd00:c1::a9fe:a9fe/128", Ports::ALL),
    // OpenStack, IPv6.
    ("fe80::a9fe:a9fe/128", Ports::ALL),
    // Tencent.
    ("169.254.0.23/32", Ports::ALL),
    // Scaleway.
    ("169.254.42.42/32", Ports::ALL),
    ("fd00:42::42/128", Ports::ALL),
    // The first one through NAT64 with a prefix of its own (RFC 8215), as some clusters with only IPv6 have it.
    ("64:ff9b:1::a9fe:a9fe/128", Ports::ALL),
];

/// What `restricted` forbids as well: link-local addresses, and the Pod's own loopback with the addresses that lead to it.
const LOCAL: [&str; 6] =
    ["169.254.0.0/16", "fe80::/10", "127.0.0.0/8", "::1/128", "0.0.0.0/8", "::/128"];

/// An address that a profile forbids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forbidden {
    /// The range that it belongs to.
    pub net: IpNet,
    /// What that range is.
    pub what: &'static str,
}

impl Profile {
    /// The ranges that the profile forbids and that the address and port belong to. A grant must be within each of them
    /// to allow the address all the same.
    pub fn forbids(self, address: IpAddr, port: u16, node: &[IpAddr]) -> Vec<Forbidden> {
        let mut found = Vec::new();
        let mut add = |net: Option<IpNet>, what| {
            found.extend(
                net.filter(|net| net.contains(&address)).map(|net| Forbidden { net, what }),
            );
        };
        if self <= Profile::Baseline {
            for (net, _) in METADATA.iter().filter(|(_, ports)| ports.contains(port)) {
                add(net.parse().ok(), "a metadata service of clouds");
            }
        }
        if self == Profile::Restricted {
            for net in LOCAL {
                add(net.parse().ok(), "a link-local or loopback address");
            }
            for own in node {
                add(Some(IpNet::from(*own)), "an address of the node");
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbids(profile: Profile, address: &str, port: u16) -> bool {
        let node = ["10.1.1.1".parse().expect("an address")];
        !profile.forbids(address.parse().expect("an address"), port, &node).is_empty()
    }

    #[test]
    fn each_range_of_the_tables_is_one() {
        for net in METADATA.iter().map(|(net, _)| *net).chain(LOCAL) {
            assert!(net.parse::<IpNet>().is_ok(), "{net}");
        }
    }

    #[test]
    fn baseline_forbids_metadata_services_and_nothing_else() {
        for address in ["169.254.169.254", "fd00:ec2::254", "100.100.100.200", "169.254.170.2"] {
            assert!(forbids(Profile::Baseline, address, 80), "{address}");
            assert!(forbids(Profile::Restricted, address, 80), "{address}");
            assert!(!forbids(Profile::Privileged, address, 80), "{address}");
        }
        for address in ["169.254.20.10", "10.96.0.10", "127.0.0.1", "10.1.1.1", "169.254.170.23"] {
            assert!(!forbids(Profile::Baseline, address, 53), "{address}");
        }
        assert!(forbids(Profile::Baseline, "168.63.129.16", 80));
        assert!(!forbids(Profile::Baseline, "168.63.129.16", 53), "Azure's DNS");
    }

    #[test]
    fn restricted_forbids_the_node_and_what_is_local_as_well() {
        for address in ["169.254.20.10", "127.0.0.1", "::1", "fe80::1", "10.1.1.1", "0.0.0.0"] {
            assert!(forbids(Profile::Restricted, address, 53), "{address}");
        }
        assert!(!forbids(Profile::Restricted, "10.96.0.10", 53));
    }

    #[test]
    fn profiles_are_ordered_from_the_strictest() {
        assert!(Profile::Restricted < Profile::Baseline && Profile::Baseline < Profile::Privileged);
        let error = "open".parse::<Profile>().expect_err("no profile").to_string();
        assert_eq!(error, "\"open\" is not valid; allowed is privileged, baseline or restricted");
    }
}
