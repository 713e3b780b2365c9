//! Decisions about one call of a guest.
//!
//! A call must be allowed by what was granted and, if the node has a ceiling, by the ceiling as well. Both are a
//! [`Network`], and are asked in the same way.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use provided::{ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, Setting};

use crate::host::{Host, Ports, canonical};
use crate::network::Protocol;
use crate::profile::Forbidden;
use crate::{Destinations, Grants, Listen, Network, Origin, Profile, Scheme, Target};

/// A refused call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the guest tried.
    tried: String,
    reason: Reason,
    /// The key of the grant that would allow it, and its value.
    key: &'static str,
    value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Reason {
    /// No entry names it.
    NotGranted,
    /// The profile forbids it, and no entry names it. Whether there are entries for other destinations.
    Forbidden { profile: Profile, what: &'static str, has_others: bool },
    /// The node's ceiling does not allow it, so that no annotation can.
    Ceiling(Box<Reason>),
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { tried, reason, key, value } = self;
        write!(formatter, "{tried}: ")?;
        match reason {
            Reason::NotGranted => write!(formatter, "not granted")?,
            Reason::Ceiling(reason) => {
                let what = match &**reason {
                    Reason::Forbidden { profile, what, .. } => forbidden(*profile, what),
                    _ => "more than the ceiling of the node's policy allows".to_owned(),
                };
                return write!(
                    formatter,
                    "{what}; only the ceiling of the node's policy can allow it"
                );
            }
            Reason::Forbidden { profile, what, .. } => {
                write!(formatter, "{}", forbidden(*profile, what))?;
            }
        }
        write!(formatter, "; {key} {value:?} would allow it")?;
        match reason {
            Reason::Forbidden { has_others: false, .. } => {
                write!(formatter, ", and then all other destinations must be named too")
            }
            _ => Ok(()),
        }
    }
}

impl Reason {
    fn of_ceiling() -> Reason {
        Reason::Ceiling(Box::new(Reason::NotGranted))
    }
}

fn forbidden(profile: Profile, what: &str) -> String {
    format!("{what}, which the profile {profile} forbids")
}

/// What a guest wants to reach.
struct Call<'a> {
    /// Names by which the guest knows the address.
    names: &'a [String],
    /// The address. `None` if only the name is known yet.
    address: Option<IpAddr>,
    port: u16,
    protocol: Protocol,
    /// The scheme of an HTTP request.
    scheme: Option<Scheme>,
}

impl Call<'_> {
    fn is_of(&self, host: &Host) -> bool {
        let is_called = self.names.iter().any(|name| host.is_called(name));
        match self.address {
            Some(address) => is_called || host.is_address(address),
            // A range may turn out to be that of the name.
            None => is_called || matches!(host, Host::Net(_)),
        }
    }

    fn is_target(&self, target: &Target) -> bool {
        target.protocol == self.protocol
            && target.ports.contains(self.port)
            && self.is_of(&target.host)
    }

    fn is_origin(&self, origin: &Origin) -> bool {
        Some(origin.scheme) == self.scheme
            && origin.ports.contains(self.port)
            && self.is_of(&origin.host)
    }
}

impl Destinations {
    /// The entries for sockets.
    pub fn targets(&self) -> &[Target] {
        self.connect.as_ref().map_or(&[], |it| &it.entries)
    }

    /// The entries for HTTP requests.
    pub fn origins(&self) -> &[Origin] {
        self.http.as_ref().map_or(&[], |it| &it.entries)
    }

    /// The hosts of these entries.
    pub(crate) fn hosts<'a>(
        &'a self,
        is_target: impl Fn(&Target) -> bool + 'a,
        is_origin: impl Fn(&Origin) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Host> {
        let targets = self.targets().iter().filter(move |it| is_target(it)).map(|it| &it.host);
        let origins = self.origins().iter().filter(move |it| is_origin(it)).map(|it| &it.host);
        targets.chain(origins)
    }
}

impl Network {
    /// Reason a call is not allowed here; `None` if it is.
    fn refuses(&self, call: &Call<'_>, node: &[IpAddr]) -> Option<Reason> {
        let hosts: Vec<&Host> = match &self.destinations {
            Some(destinations) => {
                let hosts: Vec<&Host> = destinations
                    .hosts(|target| call.is_target(target), |origin| call.is_origin(origin))
                    .collect();
                if hosts.is_empty() {
                    return Some(Reason::NotGranted);
                }
                hosts
            }
            None => Vec::new(),
        };
        let address = call.address?;
        let is_named =
            |Forbidden { net, .. }: &Forbidden| hosts.iter().any(|host| host.names(address, *net));
        let mut forbidden = self.profile.forbids(address, call.port, node);
        let Forbidden { what, .. } = forbidden.find(|it| !is_named(it))?;
        let has_others = self.destinations.is_some();
        Some(Reason::Forbidden { profile: self.profile, what, has_others })
    }

    fn refuses_to_listen(&self, wanted: &Listen) -> bool {
        let listen = self.listen.as_ref();
        listen.is_some_and(|listen| !listen.entries.iter().any(|own| own.covers(wanted)))
    }

    fn knows(&self, name: &str) -> bool {
        let destinations = self.destinations.as_ref();
        destinations.is_none_or(|own| own.hosts(|_| true, |_| true).any(|it| it.is_called(name)))
    }
}

impl Grants {
    /// Whether everything is allowed, so that no call needs to be looked at.
    pub fn allows_every_network(&self) -> bool {
        let is_all = |network: &Network| {
            network.profile == Profile::Privileged
                && network.destinations.is_none()
                && network.listen.is_none()
        };
        is_all(&self.network) && is_all(&self.ceiling)
    }

    /// Whether some grants are by name, so that it matters which name an address was found by.
    pub fn needs_names(&self) -> bool {
        let has_destinations = |network: &Network| network.destinations.is_some();
        has_destinations(&self.network) || has_destinations(&self.ceiling)
    }

    /// Whether an entry has a host by its name, so that it matters what names mean.
    pub fn name_hosts(&self) -> bool {
        let destinations = [&self.network, &self.ceiling].map(|it| it.destinations.as_ref());
        let mut destinations = destinations.into_iter().flatten();
        destinations.any(|it| it.hosts(|_| true, |_| true).any(|it| matches!(it, Host::Name(_))))
    }

    /// Whether an entry may be about this name.
    pub fn have_name(&self, name: &str) -> bool {
        self.network.knows(name) || self.ceiling.knows(name)
    }

    /// Decides whether a socket may connect, or send a datagram, to an address that was found by these names.
    ///
    /// # Errors
    /// The refusal.
    pub fn connect(
        &self,
        protocol: Protocol,
        address: SocketAddr,
        names: &[String],
    ) -> Result<(), Box<Refusal>> {
        let (ip, port) = (canonical(address.ip()), address.port());
        let call = Call { names, address: Some(ip), port, protocol, scheme: None };
        self.decide(&call, || {
            let host = Host::Net(ip.into());
            let value = Target { host, ports: Ports::one(port), protocol }.to_string();
            let tried = match protocol {
                Protocol::Tcp => format!("TCP connection to {address}"),
                Protocol::Udp => format!("UDP datagram to or from {address}"),
            };
            (tried, &ALLOW_CONNECT, value)
        })
    }

    /// Decides whether an HTTP request may be sent, and its host looked up for it. If the host is an address, it is the last
    /// decision.
    ///
    /// # Errors
    /// The refusal.
    pub fn request(&self, scheme: Scheme, host: &str, port: u16) -> Result<(), Box<Refusal>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let address: Option<IpAddr> = bare.parse().ok();
        self.request_at(scheme, host, port, address)?;
        if address.is_none() { self.look_up(host) } else { Ok(()) }
    }

    /// Decides whether an HTTP request may be sent to this address of its host.
    ///
    /// # Errors
    /// The refusal.
    pub fn request_to(
        &self,
        scheme: Scheme,
        host: &str,
        address: SocketAddr,
    ) -> Result<(), Box<Refusal>> {
        self.request_at(scheme, host, address.port(), Some(address.ip()))
    }

    fn request_at(
        &self,
        scheme: Scheme,
        host: &str,
        port: u16,
        address: Option<IpAddr>,
    ) -> Result<(), Box<Refusal>> {
        let (names, address) = ([host.to_owned()], address.map(canonical));
        let call =
            Call { names: &names, address, port, protocol: Protocol::Tcp, scheme: Some(scheme) };
        self.decide(&call, || {
            let bare = Host::parse(host).unwrap_or_else(|| Host::Name(host.to_owned()));
            let origin = |host| Origin { scheme, host, ports: Ports::one(port) }.to_string();
            let at =
                address.map(|it| format!(" at {it}")).filter(|_| matches!(bare, Host::Name(_)));
            let tried =
                format!("HTTP request to {}{}", origin(bare.clone()), at.unwrap_or_default());
            // A forbidden address must be named itself.
            match address.filter(|address| {
                self.network.profile.forbids(*address, port, &self.node).next().is_some()
            }) {
                Some(address) if matches!(bare, Host::Name(_)) => {
                    let host = Host::Net(address.into());
                    let target = Target { host, ports: Ports::one(port), protocol: Protocol::Tcp };
                    (tried, &ALLOW_CONNECT, target.to_string())
                }
                _ => (tried, &ALLOW_HTTP, origin(bare)),
            }
        })
    }

    fn decide(
        &self,
        call: &Call<'_>,
        about: impl FnOnce() -> (String, &'static Setting, String),
    ) -> Result<(), Box<Refusal>> {
        let by_ceiling = self.ceiling.refuses(call, &self.node);
        let by_ceiling = by_ceiling.map(|reason| Reason::Ceiling(Box::new(reason)));
        match by_ceiling.or_else(|| self.network.refuses(call, &self.node)) {
            None => Ok(()),
            Some(reason) => {
                let (tried, setting, value) = about();
                Err(Box::new(Refusal { tried, reason, key: setting.key, value }))
            }
        }
    }

    /// Decides whether a socket may listen at an address of its own.
    ///
    /// # Errors
    /// The refusal.
    pub fn listen(&self, protocol: Protocol, address: SocketAddr) -> Result<(), Box<Refusal>> {
        let ip = canonical(address.ip());
        let net = (!ip.is_unspecified()).then(|| ip.into());
        let wanted = Listen { net, ports: Ports::one(address.port()), protocol };
        let reason = match self.network.refuses_to_listen(&wanted) {
            _ if self.ceiling.refuses_to_listen(&wanted) => Reason::of_ceiling(),
            true => Reason::NotGranted,
            false => return Ok(()),
        };
        let tried = format!("{protocol} socket that listens at {address}");
        let value = wanted.to_string();
        Err(Box::new(Refusal { tried, reason, key: ALLOW_LISTEN.key, value }))
    }

    /// Whether a socket listens anywhere, so that it may receive what it did not ask for.
    pub fn listens(&self, protocol: Protocol) -> bool {
        let some = |network: &Network| {
            let listen = network.listen.as_ref();
            listen.is_none_or(|listen| listen.entries.iter().any(|it| it.protocol == protocol))
        };
        some(&self.network) && some(&self.ceiling)
    }

    /// Whether a socket that listens may answer an address from which it received something: not if a profile forbids it.
    pub fn may_answer(&self, address: SocketAddr) -> bool {
        let ip = canonical(address.ip());
        let forbids = |network: &Network| {
            network.profile.forbids(ip, address.port(), &self.node).next().is_some()
        };
        !forbids(&self.network) && !forbids(&self.ceiling)
    }

    /// Decides whether a name may be looked up: in `restricted` only a granted one, because a look-up is a message to
    /// the servers of the name. An address is no name.
    ///
    /// # Errors
    /// The refusal.
    pub fn look_up(&self, name: &str) -> Result<(), Box<Refusal>> {
        let refuses =
            |network: &Network| network.profile == Profile::Restricted && !network.knows(name);
        let is_address = matches!(Host::parse(name), Some(Host::Net(_)));
        let reason = match refuses(&self.network) {
            _ if is_address => return Ok(()),
            _ if refuses(&self.ceiling) => Reason::of_ceiling(),
            true => Reason::NotGranted,
            false => return Ok(()),
        };
        let (tried, value) = (format!("look-up of the name {name:?}"), format!("{name}:*"));
        Err(Box::new(Refusal { tried, reason, key: ALLOW_CONNECT.key, value }))
    }
}
