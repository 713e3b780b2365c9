//! Decisions about one call of a guest.
//!
//! A call must be allowed by what was granted and, if the node has a ceiling, by the ceiling as well. Both are a
//! [`Network`], and are asked in the same way.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use provided::{ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, Setting};

use crate::network::{Host, Ports, Protocol, canonical};
use crate::profile::Forbidden;
use crate::{Destinations, Grants, Listen, Network, Origin, Profile, Scheme, Target};

/// A refused call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the guest tried.
    tried: String,
    why: Why,
    /// The key of the grant that would allow it, and its value.
    key: &'static str,
    value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    NotGranted,
    Forbidden(Profile, &'static str),
    Ceiling,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { tried, why, key, value } = self;
        write!(formatter, "{tried}: ")?;
        match why {
            Why::NotGranted => write!(formatter, "not granted")?,
            Why::Forbidden(profile, what) => {
                write!(formatter, "{what}, which the profile {profile} forbids")?;
            }
            Why::Ceiling => {
                return write!(formatter, "more than the node's policy allows to {key} {value:?}");
            }
        }
        write!(formatter, "; {key} {value:?} would allow it")
    }
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
    /// The hosts of the entries that allow the call.
    fn allow<'a>(&'a self, call: &'a Call<'_>) -> impl Iterator<Item = &'a Host> {
        let targets = self.connect.entries.iter().filter(|it| call.is_target(it));
        let origins = self.http.entries.iter().filter(|it| call.is_origin(it));
        targets.map(|it| &it.host).chain(origins.map(|it| &it.host))
    }
}

impl Network {
    /// Why a call is not allowed here; `None` if it is.
    fn refuses(&self, call: &Call<'_>, node: &[IpAddr]) -> Option<Why> {
        let hosts: Vec<&Host> = match &self.destinations {
            Some(destinations) => {
                let hosts: Vec<&Host> = destinations.allow(call).collect();
                if hosts.is_empty() {
                    return Some(Why::NotGranted);
                }
                hosts
            }
            None => Vec::new(),
        };
        let address = call.address?;
        let is_named =
            |Forbidden { net, .. }: &Forbidden| hosts.iter().any(|host| host.names(address, *net));
        let forbidden = self.profile.forbids(address, call.port, node);
        let forbidden = forbidden.into_iter().find(|it| !is_named(it))?;
        Some(Why::Forbidden(self.profile, forbidden.what))
    }

    fn refuses_to_listen(&self, wanted: &Listen) -> bool {
        let listen = self.listen.as_ref();
        listen.is_some_and(|listen| !listen.entries.iter().any(|own| own.covers(wanted)))
    }

    fn knows(&self, name: &str) -> bool {
        let Some(destinations) = &self.destinations else { return true };
        let targets = destinations.connect.entries.iter().map(|it| &it.host);
        let origins = destinations.http.entries.iter().map(|it| &it.host);
        targets.chain(origins).any(|host| host.is_called(name))
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
        is_all(&self.network) && self.ceiling.as_ref().is_none_or(is_all)
    }

    /// Whether some grants are by name, so that it matters which name an address was found by.
    pub fn needs_names(&self) -> bool {
        let has_destinations = |network: &Network| network.destinations.is_some();
        has_destinations(&self.network) || self.ceiling.as_ref().is_some_and(has_destinations)
    }

    /// Whether an entry may be about this name.
    pub fn have_name(&self, name: &str) -> bool {
        self.network.knows(name) || self.ceiling.as_ref().is_some_and(|it| it.knows(name))
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
                !self.network.profile.forbids(*address, port, &self.node).is_empty()
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
        let own = self.network.refuses(call, &self.node);
        let by_ceiling = || {
            let ceiling = self.ceiling.as_ref()?;
            ceiling.refuses(call, &self.node).map(|_| Why::Ceiling)
        };
        match by_ceiling().or(own) {
            None => Ok(()),
            Some(why) => {
                let (tried, setting, value) = about();
                Err(Box::new(Refusal { tried, why, key: setting.key, value }))
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
        let ceiling = self.ceiling.as_ref().is_some_and(|it| it.refuses_to_listen(&wanted));
        let why = match self.network.refuses_to_listen(&wanted) {
            _ if ceiling => Why::Ceiling,
            true => Why::NotGranted,
            false => return Ok(()),
        };
        let tried = format!("{protocol} socket that listens at {address}");
        let value = wanted.to_string();
        Err(Box::new(Refusal { tried, why, key: ALLOW_LISTEN.key, value }))
    }

    /// Whether a socket listens anywhere, so that it may receive what it did not ask for.
    pub fn listens(&self, protocol: Protocol) -> bool {
        let some = |network: &Network| {
            let listen = network.listen.as_ref();
            listen.is_none_or(|listen| listen.entries.iter().any(|it| it.protocol == protocol))
        };
        some(&self.network) && self.ceiling.as_ref().is_none_or(some)
    }

    /// Decides whether a name may be looked up: in `restricted` only a granted one, because a look-up is a message to
    /// whoever serves the name. An address is no name.
    ///
    /// # Errors
    /// The refusal.
    pub fn look_up(&self, name: &str) -> Result<(), Box<Refusal>> {
        let refuses =
            |network: &Network| network.profile == Profile::Restricted && !network.knows(name);
        let is_address = matches!(Host::parse(name), Some(Host::Net(_)));
        let why = match refuses(&self.network) {
            _ if is_address => return Ok(()),
            _ if self.ceiling.as_ref().is_some_and(refuses) => Why::Ceiling,
            true => Why::NotGranted,
            false => return Ok(()),
        };
        let (tried, value) = (format!("look-up of the name {name:?}"), format!("{name}:*"));
        Err(Box::new(Refusal { tried, why, key: ALLOW_CONNECT.key, value }))
    }
}
