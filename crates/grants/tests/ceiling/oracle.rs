//! What a ceiling allows, as the documentation describes it.

use std::net::{IpAddr, SocketAddr};

use grants::quantity::{Body, Count, Head, Memory, Time};
use grants::{
    FileGrant, Grants, Host, HttpLimits, Limits, Ports, Profile, Protocol, Requested, Scheme,
};
use ipnet::IpNet;

/// What decides about the calls of a guest.
pub trait Decides {
    fn connects(&self, protocol: Protocol, name: &str, address: SocketAddr) -> bool;
    fn requests(&self, scheme: Scheme, name: &str, address: SocketAddr) -> bool;
    fn listens(&self, protocol: Protocol, address: SocketAddr) -> bool;
    fn looks_up(&self, name: &str) -> bool;
    fn has_file(&self, file: &FileGrant) -> bool;
    fn has_feature(&self, name: &str) -> bool;
    fn has_interface(&self, name: &str) -> bool;
    /// Whether so much may be used: units, bytes, milliseconds or a number.
    fn may_use(&self, key: &str, amount: u64) -> bool;
}

fn milliseconds(time: Time) -> u64 {
    time.get().as_millis().try_into().expect("a number")
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

    fn has_interface(&self, name: &str) -> bool {
        self.interfaces.offered().iter().any(|it| it.to_string() == name)
    }

    fn may_use(&self, key: &str, amount: u64) -> bool {
        let most = u64::MAX;
        let Limits { memory, time, log_rate, http } = &self.limits;
        let HttpLimits { idle_time, body, connections, head, instances, request_time } = http;
        let number = |it: Count| it.get().into();
        let most = match key {
            "fuel" => self.code.fuel().unwrap_or(most),
            "max-memory" => memory.or(most, Memory::bytes),
            "timeout" => time.or(most, milliseconds),
            "log-rate" => log_rate.or(most, number),
            "http-idle-timeout" => idle_time.or(most, milliseconds),
            "http-max-body" => body.or(most, Body::bytes),
            "http-max-connections" => connections.or(most, number),
            "http-max-header" => head.or(most, |it: Head| it.bytes().into()),
            "http-max-requests" => instances.or(most, number),
            "http-request-timeout" => request_time.or(most, milliseconds),
            _ => panic!("{key} is no limit"),
        };
        amount <= most
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

    fn has_interface(&self, name: &str) -> bool {
        let Some(entries) = &self.0.interfaces else { return true };
        entries.iter().any(|it| it.to_string() == name)
    }

    fn may_use(&self, key: &str, amount: u64) -> bool {
        let text = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string);
        let Requested { fuel, max_memory, timeout, log_rate, .. } = self.0;
        let Requested { http_idle_timeout, http_max_body, http_max_connections, .. } = self.0;
        let Requested { http_max_header, http_max_requests, http_request_timeout, .. } = self.0;
        let most = match key {
            "fuel" => text(fuel.as_ref().map(|it| it as _)),
            "max-memory" => text(max_memory.as_ref().map(|it| it as _)),
            "timeout" => text(timeout.as_ref().map(|it| it as _)),
            "log-rate" => text(log_rate.as_ref().map(|it| it as _)),
            "http-idle-timeout" => text(http_idle_timeout.as_ref().map(|it| it as _)),
            "http-max-body" => text(http_max_body.as_ref().map(|it| it as _)),
            "http-max-connections" => text(http_max_connections.as_ref().map(|it| it as _)),
            "http-max-header" => text(http_max_header.as_ref().map(|it| it as _)),
            "http-max-requests" => text(http_max_requests.as_ref().map(|it| it as _)),
            "http-request-timeout" => text(http_request_timeout.as_ref().map(|it| it as _)),
            _ => panic!("{key} is no limit"),
        };
        most.is_none_or(|most| amount <= number(&most))
    }
}

/// A quantity as the documentation describes it.
fn number(text: &str) -> u64 {
    let (digits, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let factor = match unit {
        "Ki" => 1024,
        "Mi" => 1024 * 1024,
        "Gi" => 1024 * 1024 * 1024,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "" | "ms" => 1,
        _ => panic!("{text} has no known unit"),
    };
    digits.parse::<u64>().expect("a number") * factor
}
