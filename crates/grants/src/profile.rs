//! Profiles, named as those of Kubernetes' Pod Security Standards.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use provided::GRANT_PROFILE;

use crate::host::Ports;
use crate::text::as_text;

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

as_text!(Profile, GRANT_PROFILE);

impl Profile {
    /// Name of the profile.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Restricted => "restricted",
            Profile::Baseline => "baseline",
            Profile::Privileged => "privileged",
        }
    }

    fn parse(text: &str) -> Option<Profile> {
        let all = [Profile::Restricted, Profile::Baseline, Profile::Privileged];
        all.into_iter().find(|profile| profile.name() == text)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What each range of a table is, for refusals.
const METADATA_SERVICE: &str = "a metadata service of clouds";
const LOCAL_ADDRESS: &str = "a link-local or loopback address";
const NODE_ADDRESS: &str = "an address of the node";

/// Metadata services of clouds, which give credentials of the node to every process that can reach them.
///
/// Other link-local addresses are not here: NodeLocal DNS (169.254.20.10), Amazon's DNS and time (169.254.169.253, .123),
/// and EKS Pod Identity (169.254.170.23), which gives a Pod its own credentials and no others.
const METADATA: [(IpNet, Ports); 13] = [
    // Amazon, Azure, Google, Oracle, OpenStack, IBM, DigitalOcean, Hetzner and others.
    (v4([169, 254, 169, 254], 32), Ports::ALL),
    // Amazon EC2, IPv6.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), Ports::ALL),
    // Amazon ECS, credentials of tasks.
    (v4([169, 254, 170, 2], 32), Ports::ALL),
    // Azure's WireServer. Its DNS, on port 53 of the same address, is no metadata service.
    (v4([168, 63, 129, 16], 32), Ports::one(80)),
    (v4([168, 63, 129, 16], 32), Ports::one(32526)),
    // Google, IPv6.
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), Ports::ALL),
    // Alibaba.
    (v4([100, 100, 100, 200], 32), Ports::ALL),
    // Oracle, IPv6.
    (v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), Ports::ALL),
    // OpenStack, IPv6.
    (v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), Ports::ALL),
    // Tencent.
    (v4([169, 254, 0, 23], 32), Ports::ALL),
    // Scaleway.
    (v4([169, 254, 42, 42], 32), Ports::ALL),
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), Ports::ALL),
    // The first one through NAT64 with a prefix of its own (RFC 8215), as some clusters with only IPv6 have it.
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0xa9fe, 0xa9fe], 128), Ports::ALL),
];

/// What `restricted` forbids as well: link-local addresses, and the Pod's own loopback with the addresses that lead to it.
const LOCAL: [IpNet; 6] = [
    v4([169, 254, 0, 0], 16),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    v4([127, 0, 0, 0], 8),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128),
    v4([0, 0, 0, 0], 8),
    v6([0; 8], 128),
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length))
}

/// A range of addresses that a profile forbids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forbidden {
    /// The range.
    pub net: IpNet,
    /// The ports on which it is forbidden.
    pub ports: Ports,
    /// What the range is.
    pub what: &'static str,
}

impl Profile {
    /// The ranges that the profile forbids, on a node with these addresses. A grant must be within each range that an
    /// address belongs to, in order to allow that address all the same.
    pub fn forbidden(self, node: &[IpAddr]) -> impl Iterator<Item = Forbidden> {
        let is_strict = self == Profile::Restricted;
        let metadata = METADATA.iter().filter(move |_| self <= Profile::Baseline);
        let metadata =
            metadata.map(|&(net, ports)| Forbidden { net, ports, what: METADATA_SERVICE });
        let local = LOCAL.iter().filter(move |_| is_strict);
        let local = local.map(|&net| Forbidden { net, ports: Ports::ALL, what: LOCAL_ADDRESS });
        let node = node.iter().filter(move |_| is_strict).map(|&own| Forbidden {
            net: own.into(),
            ports: Ports::ALL,
            what: NODE_ADDRESS,
        });
        metadata.chain(local).chain(node)
    }

    /// The ranges that it forbids and that the address and port belong to.
    pub fn forbids(
        self,
        address: IpAddr,
        port: u16,
        node: &[IpAddr],
    ) -> impl Iterator<Item = Forbidden> {
        self.forbidden(node).filter(move |it| it.net.contains(&address) && it.ports.contains(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forbids(profile: Profile, address: &str, port: u16) -> bool {
        let node = ["10.1.1.1".parse().expect("an address")];
        let address = address.parse().expect("an address");
        profile.forbids(address, port, &node).next().is_some()
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
