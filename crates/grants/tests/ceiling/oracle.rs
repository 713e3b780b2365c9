//! What a ceiling allows, as the documentation describes it.

use std::net::{IpAddr, SocketAddr};

use grants::{FileGrant, Grants, Host, Ports, Profile, Protocol, Requested, Scheme};
use ipnet::IpNet;

/// What decides about the calls of a guest.
pub trait Decides {
    fn connects(&self, protocol: Protocol, name: &str, address: SocketAddr) -> bool;
    fn requests(&self, scheme: Scheme, name: &str, address: SocketAddr) -> bool;
    fn listens(&self, protocol: Protocol, address: SocketAddr) -> bool;
    fn looks_up(&self, name: &str) -> bool;
    fn has_file(&self, file: &FileGrant) -> bool;
    fn has_feature(&self, name: &str) -> bool;
    fn has_fuel(&self, units: u64) -> bool;
}

impl Decides for Grants {
    fn connects(&self, protocol: Protocol, name: &str, address: SocketAddr) -> bool {
        self.connect(protocol, address, &[name.to_owned()]).is_ok()
    }

    fn requests(&self, scheme: Scheme, name: &str, address: SocketAddr) -> bool {
        self.request(scheme, name, address.port()).is_ok()
            && self.request_to(scheme, name, address).is_ok()
    }

    fn listens(&self, protocol: Protocol, address: SocketAddr) -> bool {
        self.listen(protocol, address).is_ok()
    }

    fn looks_up(&self, name: &str) -> bool {
        self.look_up(name).is_ok()
    }

    fn has_file(&self, file: &FileGrant) -> bool {
        self.files.as_ref().is_none_or(|files| files.entries.iter().any(|it| it.covers(file)))
    }

    fn has_feature(&self, name: &str) -> bool {
        self.code.features().names().contains(&name)
    }

    fn has_fuel(&self, units: u64) -> bool {
        self.code.fuel().is_none_or(|fuel| units <= fuel)
    }
}

/// A ceiling, as the documentation describes it. It shares no code with the merge.
pub struct Ceiling<'a>(pub &'a Requested);

impl Ceiling<'_> {
    pub fn profile(&self) -> Profile {
        self.0.profile.unwrap_or(Profile::Baseline)
    }

    fn is_strict(&self) -> bool {
        self.profile() == Profile::Restricted
    }

    /// Hosts and ports of the entries for sockets, or for requests as well. `None` if none are named.
    fn entries(&self, protocol: Protocol, scheme: Option<Scheme>) -> Option<Vec<(&Host, Ports)>> {
        let Requested { allow_connect, allow_http, .. } = self.0;
        if !self.is_strict() && allow_connect.is_none() && allow_http.is_none() {
            return None;
        }
        let targets = allow_connect.iter().flatten().filter(|it| it.protocol == protocol);
        let origins = allow_http.iter().flatten().filter(|it| Some(it.scheme) == scheme);
        let origins = origins.map(|it| (&it.host, it.ports));
        Some(targets.map(|it| (&it.host, it.ports)).chain(origins).collect())
    }

    fn reaches(
        &self,
        protocol: Protocol,
        scheme: Option<Scheme>,
        name: &str,
        address: SocketAddr,
    ) -> bool {
        let (ip, port) = (address.ip(), address.port());
        let entries = self.entries(protocol, scheme);
        let is_open = entries.is_none();
        let found: Vec<&Host> = entries
            .into_iter()
            .flatten()
            .filter(|(host, ports)| {
                (ports.first..=ports.last).contains(&port)
                    && (is_called(host, name) || is_at(host, ip))
            })
            .map(|(host, _)| host)
            .collect();
        let has_net = |is_in: &dyn Fn(IpAddr) -> bool| {
            let ends = |net: &IpNet| is_in(net.network()) && is_in(net.broadcast());
            found.iter().any(|host| match host {
                Host::Net(net) => net.contains(&ip) && ends(net),
                Host::Name(name) => name == "localhost" && ip.is_loopback() && is_in(ip),
                Host::Any => false,
            })
        };
        let is_forbidden = |is_in: &dyn Fn(IpAddr) -> bool| is_in(ip) && !has_net(is_in);
        let has_metadata = match ip.to_string().as_str() {
            "169.254.169.254" | "fd00:ec2::254" => true,
            "168.63.129.16" => port == 80,
            _ => false,
        };
        (is_open || !found.is_empty())
            && !(self.profile() <= Profile::Baseline
                && has_metadata
                && is_forbidden(&|it| it == ip))
            && !(self.is_strict()
                && (is_forbidden(&is_link_local) || is_forbidden(&|it| it.is_loopback())))
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.is_link_local())
}

fn is_called(host: &Host, name: &str) -> bool {
    match host {
        Host::Any => true,
        Host::Net(_) => false,
        Host::Name(own) => match own.strip_prefix('*') {
            Some(end) => name.ends_with(end),
            None => name == own,
        },
    }
}

fn is_at(host: &Host, ip: IpAddr) -> bool {
    matches!(host, Host::Any) || matches!(host, Host::Net(net) if net.contains(&ip))
}

impl Decides for Ceiling<'_> {
    fn connects(&self, protocol: Protocol, name: &str, address: SocketAddr) -> bool {
        self.reaches(protocol, None, name, address)
    }

    fn requests(&self, scheme: Scheme, name: &str, address: SocketAddr) -> bool {
        self.reaches(Protocol::Tcp, Some(scheme), name, address)
            && (name.parse::<IpAddr>().is_ok() || self.looks_up(name))
    }

    fn listens(&self, protocol: Protocol, address: SocketAddr) -> bool {
        let Some(entries) = &self.0.allow_listen else { return !self.is_strict() };
        entries.iter().any(|it| {
            it.protocol == protocol
                && (it.ports.first..=it.ports.last).contains(&address.port())
                && it.net.is_none_or(|net| net.contains(&address.ip()))
        })
    }

    fn looks_up(&self, name: &str) -> bool {
        let known = |entries: Vec<(&Host, Ports)>| entries.iter().any(|it| is_called(it.0, name));
        let all = [(Protocol::Tcp, Some(Scheme::Http)), (Protocol::Udp, Some(Scheme::Https))];
        name.parse::<IpAddr>().is_ok()
            || !self.is_strict()
            || all.into_iter().filter_map(|(it, scheme)| self.entries(it, scheme)).any(known)
    }

    fn has_file(&self, file: &FileGrant) -> bool {
        let Some(entries) = &self.0.files else { return !self.is_strict() };
        entries.iter().any(|it| file.path.starts_with(&it.path) && file.access <= it.access)
    }

    fn has_feature(&self, name: &str) -> bool {
        let Some(entries) = &self.0.features else { return true };
        entries.iter().any(|it| match it.to_string().as_str() {
            "wasm3" => !["wide-arithmetic", "custom-page-sizes"].contains(&name),
            "gc" => ["gc", "function-references"].contains(&name),
            own => own == name,
        })
    }

    fn has_fuel(&self, units: u64) -> bool {
        self.0.fuel.is_none_or(|fuel| units <= fuel.to_string().parse().expect("a number"))
    }
}
