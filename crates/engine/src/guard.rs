//! Compares the calls of a guest with its grants, and reports each refusal once.
//!
//! A grant by name counts for the addresses that the guest found by a look-up of that name. So the guard records them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use grants::{FileGrant, Grants, Protocol, Refusal, Scheme};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::sockets::SocketAddrUse;

use crate::lines::Lines;

/// How long a guest may answer the sender of a datagram, as connection tracking in the kernel has it by default
/// (nf_conntrack_udp_timeout_stream).
const ANSWERS: Duration = Duration::from_secs(120);

/// How many addresses are recorded, and how many names of each. A guest that looks up more must repeat earlier look-ups.
const ADDRESSES: usize = 4096;
const NAMES: usize = 8;

/// Length of a line, in characters: a guest chooses the names.
const LINE: usize = 600;

/// A refused request. The guest gets the code of its interface for it.
#[derive(Debug, thiserror::Error)]
#[error("denied: it is not granted")]
pub struct Denied;

/// Grants, with what is needed to compare calls with them.
pub struct Guard {
    grants: Grants,
    known: Mutex<Known>,
    lines: Lines,
}

#[derive(Default)]
struct Known {
    /// Names by which the guest found an address.
    names: HashMap<IpAddr, Vec<String>>,
    /// Senders of datagrams that the guest received, so that it may answer, and when the last one arrived.
    senders: HashMap<SocketAddr, Instant>,
}

impl Known {
    fn is_sender(&self, address: SocketAddr, now: Instant) -> bool {
        self.senders.get(&address).is_some_and(|&since| now.duration_since(since) < ANSWERS)
    }

    fn add_sender(&mut self, address: SocketAddr, now: Instant) {
        if self.senders.len() >= ADDRESSES {
            self.senders.retain(|_, since| now.duration_since(*since) < ANSWERS);
        }
        // Of a flood, the latest are the ones to be answered.
        if self.senders.len() >= ADDRESSES {
            self.senders.clear();
        }
        self.senders.insert(address, now);
    }
}

impl Guard {
    /// A guard of these grants.
    pub fn new(grants: Grants) -> Guard {
        Guard { grants, known: Mutex::default(), lines: Lines::default() }
    }

    /// Lets the sockets of a context do what is granted.
    pub fn allow(self: &Arc<Guard>, builder: &mut WasiCtxBuilder) {
        builder.allow_tcp(true).allow_udp(true).allow_ip_name_lookup(true);
        if self.grants.allows_every_network() {
            builder.inherit_network();
            return;
        }
        let guard = self.clone();
        builder.socket_addr_check(move |address, reason| {
            Box::pin(std::future::ready(guard.is_allowed(address, reason)))
        });
    }

    fn is_allowed(&self, address: SocketAddr, reason: SocketAddrUse) -> bool {
        match reason {
            // The kernel chooses the port, as for every socket that connects.
            SocketAddrUse::TcpBind | SocketAddrUse::UdpBind if address.port() == 0 => true,
            SocketAddrUse::TcpBind | SocketAddrUse::TcpListen => {
                self.listens(Protocol::Tcp, address)
            }
            SocketAddrUse::UdpBind => self.listens(Protocol::Udp, address),
            SocketAddrUse::TcpAccept => true,
            SocketAddrUse::TcpConnect => self.reports(self.connects(Protocol::Tcp, address)),
            SocketAddrUse::UdpSend => {
                let may_answer = self.known().is_sender(address, Instant::now());
                may_answer || self.reports(self.connects(Protocol::Udp, address))
            }
            SocketAddrUse::UdpReceive => self.receives(address, Instant::now()),
        }
    }

    fn connects(&self, protocol: Protocol, address: SocketAddr) -> Result<(), Box<Refusal>> {
        let known = self.known();
        let names = known.names.get(&address.ip().to_canonical());
        self.grants.connect(protocol, address, names.map_or(&[], Vec::as_slice))
    }

    fn listens(&self, protocol: Protocol, address: SocketAddr) -> bool {
        self.reports(self.grants.listen(protocol, address))
    }

    /// Whether a datagram may be received. Wasmtime does not say by which socket, so that one socket that listens counts for
    /// all of the guest's.
    fn receives(&self, address: SocketAddr, now: Instant) -> bool {
        if self.connects(Protocol::Udp, address).is_ok() {
            return true;
        }
        let receives = self.grants.listens(Protocol::Udp) && self.grants.may_answer(address);
        if receives {
            self.known().add_sender(address, now);
        }
        receives
    }

    /// Whether a name may be looked up.
    pub fn looks_up(&self, name: &str) -> bool {
        self.reports(self.grants.look_up(name))
    }

    /// Whether it matters by which name an address was found.
    pub fn needs_names(&self) -> bool {
        self.grants.needs_names()
    }

    /// Records that the guest found an address by a name, if a grant has that name.
    pub fn found(&self, name: &str, address: IpAddr) {
        if !self.grants.have_name(name) {
            return;
        }
        let names = &mut self.known().names;
        if names.len() >= ADDRESSES {
            names.clear();
        }
        let names = names.entry(address.to_canonical()).or_default();
        if names.len() < NAMES && names.iter().all(|known| known != name) {
            names.push(name.to_owned());
        }
    }

    /// Whether an HTTP request may be sent, as far as its URL says.
    pub fn requests(&self, scheme: Scheme, host: &str, port: u16) -> bool {
        self.reports(self.grants.request(scheme, host, port))
    }

    /// The addresses of a host to which a request may be sent.
    ///
    /// # Errors
    /// If there are addresses, and it may be sent to none of them.
    pub fn addresses(
        &self,
        scheme: Scheme,
        host: &str,
        found: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, Denied> {
        self.allowed(found, |address| self.grants.request_to(scheme, host, address))
    }

    /// The addresses of a host that may be connected to by TCP.
    ///
    /// # Errors
    /// As of [`Guard::addresses`].
    pub fn reaches(&self, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Denied> {
        let names = [host.to_owned()];
        self.allowed(found, |address| self.grants.connect(Protocol::Tcp, address, &names))
    }

    fn allowed(
        &self,
        found: Vec<SocketAddr>,
        decide: impl Fn(SocketAddr) -> Result<(), Box<Refusal>>,
    ) -> Result<Vec<SocketAddr>, Denied> {
        let mut refused = None;
        let mut is_allowed = |address: &SocketAddr| {
            decide(*address).map_err(|refusal| refused = Some(refusal)).is_ok()
        };
        let allowed: Vec<SocketAddr> = found.into_iter().filter(|it| is_allowed(it)).collect();
        match refused {
            Some(refusal) if allowed.is_empty() => {
                self.report(&refusal.to_string());
                Err(Denied)
            }
            _ => Ok(allowed),
        }
    }

    /// The granted directories, if only some are granted.
    pub fn files(&self) -> &[FileGrant] {
        self.grants.files.as_ref().map_or(&[], |files| &files.entries)
    }

    /// Reports a path that leads out of the granted directory.
    pub fn refuses_to_leave(&self, path: &Path) {
        let key = provided::FILES.key;
        self.report(&format!(
            "file {path:?}: it leads out of the granted directory; {key} must name the directory to which it leads"
        ));
    }

    /// Reports a change in a directory that may only be read.
    pub fn refuses_to_change(&self, path: &Path) {
        let key = provided::FILES.key;
        let within = self
            .files()
            .iter()
            .map(|it| it.path.as_path())
            .filter(|granted| path.starts_with(granted));
        // The innermost of the granted directories.
        let granted = within.max_by_key(|granted| granted.as_os_str().len()).unwrap_or(path);
        let value = format!("{}=rw", granted.display());
        self.report(&format!("file {path:?}: it may only be read; {key} {value:?} would allow it"));
    }

    fn reports(&self, decided: Result<(), Box<Refusal>>) -> bool {
        decided.map_err(|refusal| self.report(&refusal.to_string())).is_ok()
    }

    fn report(&self, refusal: &str) {
        let line: String = format!("denied: {refusal}").chars().take(LINE).collect();
        self.lines.log(&line, &line);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(connect: &str, listen: &str) -> Guard {
        let mut pod = grants::Requested::default();
        pod.set(provided::ALLOW_CONNECT.key, connect).expect("is valid");
        pod.set(provided::ALLOW_LISTEN.key, listen).expect("is valid");
        let given = grants::MergeInput { pod, ..grants::MergeInput::default() };
        Guard::new(grants::merge(&given).expect("merges"))
    }

    #[test]
    fn a_name_counts_for_the_addresses_that_were_found_by_it() {
        let guard = guard("redis:6379", "");
        let address: SocketAddr = "10.1.1.1:6379".parse().expect("an address");
        assert!(!guard.is_allowed(address, SocketAddrUse::TcpConnect));
        guard.found("other", address.ip());
        assert!(!guard.is_allowed(address, SocketAddrUse::TcpConnect));
        guard.found("redis", address.ip());
        assert!(guard.is_allowed(address, SocketAddrUse::TcpConnect));
        assert!(!guard.is_allowed(address, SocketAddrUse::UdpSend));
    }

    #[test]
    fn a_flood_of_datagrams_takes_no_more_than_its_room() {
        let (mut known, now) = (Known::default(), Instant::now());
        let sender = |number: u32| SocketAddr::new(IpAddr::V4(number.into()), 9);
        for number in 0..10_000 {
            known.add_sender(sender(number), now);
            assert!(known.senders.len() <= ADDRESSES && known.is_sender(sender(number), now));
        }
        let later = now + ANSWERS;
        known.add_sender(sender(0), later);
        assert!(known.is_sender(sender(0), later) && !known.is_sender(sender(9_999), later));
    }

    #[test]
    fn a_socket_that_listens_may_answer_those_that_send_to_it() {
        let client: SocketAddr = "10.1.1.1:9".parse().expect("an address");
        let own: SocketAddr = "0.0.0.0:53".parse().expect("an address");
        let server = guard("", "53/udp");
        assert!(server.is_allowed(own, SocketAddrUse::UdpBind));
        assert!(!server.is_allowed(own, SocketAddrUse::TcpListen));
        assert!(!server.is_allowed(client, SocketAddrUse::UdpSend));
        assert!(server.is_allowed(client, SocketAddrUse::UdpReceive));
        assert!(server.is_allowed(client, SocketAddrUse::UdpSend));
        let later = |seconds| Instant::now() + Duration::from_secs(seconds);
        assert!(server.known().is_sender(client, later(110)));
        assert!(!server.known().is_sender(client, later(130)), "the way back is closed again");
        // A forbidden address is not answered, even if it sends.
        let metadata: SocketAddr = "169.254.169.254:80".parse().expect("an address");
        assert!(!server.is_allowed(metadata, SocketAddrUse::UdpReceive));
        assert!(!server.is_allowed(metadata, SocketAddrUse::UdpSend));
        let client_only = guard("", "");
        assert!(!client_only.is_allowed(client, SocketAddrUse::UdpReceive));
        assert!(
            client_only
                .is_allowed("0.0.0.0:0".parse().expect("an address"), SocketAddrUse::UdpBind)
        );
    }
}
