//! Makes a connection: within what the node allows, with TLS and the password if they are asked for.
//!
//! The look-up of a name and the reading of a file may hang longer than a guest should wait. So another thread does
//! them, one at a time, and the caller waits for it no longer than until its deadline.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use plan::keyvalue::Redis;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::failure::{Failure, NO_DATABASE};
use super::socket::Socket;
use super::stream::Stream;
use super::wire::{Unread, Wire};
use crate::guard::Guard;
use crate::http::roots::Roots;
use crate::named_path::{NamedPath, read_at_most};

/// The longest password, in bytes: that of a file that is none ends here.
const PASSWORD_BYTES: u64 = 4 << 10;

/// How old what was found out may be: a later call has use for what an earlier one did not wait for, but not for old addresses
/// or an old password.
const FRESH: Duration = Duration::from_secs(1);

/// What a connection is made from.
pub struct Connector {
    /// The server.
    pub redis: Redis,
    /// The file of the password.
    pub password: Option<NamedPath>,
    /// What the runtime may connect to.
    pub guard: Guard,
    /// What TLS trusts.
    pub roots: Arc<Roots>,
}

/// What another thread finds out.
pub struct Prepared {
    addresses: Vec<SocketAddr>,
    password: Option<Vec<u8>>,
    tls: Option<Arc<ClientConfig>>,
}

/// What another thread has found out, and when.
type Found = (Instant, Result<Prepared, Failure>);

/// What is being found out by another thread.
pub struct Preparing(Receiver<Found>);

impl Preparing {
    /// Whether the other thread still works. A result that is there is dropped.
    pub fn hangs(&self) -> bool {
        self.0.try_recv().err() == Some(TryRecvError::Empty)
    }
}

impl Connector {
    /// Connects before the deadline. A preparation that is not done by then is left for the next attempt.
    pub fn connect(
        self: &Arc<Connector>,
        preparing: &mut Option<Preparing>,
        deadline: Instant,
    ) -> Result<Wire, Failure> {
        let prepared = self.prepared(preparing, deadline)?;
        let socket = connected(&prepared.addresses, deadline)?;
        let stream = match prepared.tls {
            None => Stream::Plain(socket),
            Some(config) => Stream::Tls(Box::new(self.secured(socket, config)?)),
        };
        let mut wire = Wire::new(stream);
        wire.set_deadline(deadline);
        self.begin(&mut wire, prepared.password.as_deref())?;
        Ok(wire)
    }

    fn prepared(
        self: &Arc<Connector>,
        preparing: &mut Option<Preparing>,
        deadline: Instant,
    ) -> Result<Prepared, Failure> {
        loop {
            let (current, is_new) = match preparing.take() {
                Some(current) => (current, false),
                None => (self.prepare()?, true),
            };
            let left = deadline.saturating_duration_since(Instant::now());
            match current.0.recv_timeout(left) {
                Ok((since, _)) if !is_new && since.elapsed() > FRESH => {}
                Ok((_, found)) => return found,
                Err(RecvTimeoutError::Timeout) => {
                    *preparing = Some(current);
                    return Err(Failure::Timeout);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::Connect("a panic".to_owned()));
                }
            }
        }
    }

    fn prepare(self: &Arc<Connector>) -> Result<Preparing, Failure> {
        let (sender, receiver) = sync_channel(1);
        let connector = self.clone();
        let work = move || {
            // The call that wanted it may have ended.
            let found = connector.find_out();
            let _ = sender.send((Instant::now(), found));
        };
        let started = thread::Builder::new().name("redis".to_owned()).spawn(work);
        started.map_err(|error| Failure::Connect(error.to_string()))?;
        Ok(Preparing(receiver))
    }

    fn find_out(&self) -> Result<Prepared, Failure> {
        let (host, port) = (&self.redis.host, self.redis.port);
        if !self.guard.looks_up(host) {
            return Err(Failure::Denied);
        }
        let look_up =
            |error: io::Error| Failure::LookUp { name: host.clone(), reason: error.to_string() };
        let found = (host.as_str(), port).to_socket_addrs().map_err(look_up)?.collect();
        let addresses = self.guard.reaches(host, found).map_err(|_| Failure::Denied)?;
        let password = self.password.as_ref().map(read_password).transpose()?;
        let tls = self.redis.tls.then(|| self.roots.client()).transpose();
        let tls = tls.map_err(|error| Failure::Tls(error.to_string()))?;
        Ok(Prepared { addresses, password, tls })
    }

    fn secured(
        &self,
        socket: Socket,
        config: Arc<ClientConfig>,
    ) -> Result<StreamOwned<ClientConnection, Socket>, Failure> {
        let failed = |error: rustls::Error| Failure::Tls(error.to_string());
        let name = ServerName::try_from(self.redis.host.clone());
        let name = name.map_err(|error| Failure::Tls(error.to_string()))?;
        let connection = ClientConnection::new(config, name).map_err(failed)?;
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(|error| match error.kind() {
                ErrorKind::UnexpectedEof => Failure::Tls("the connection broke off".to_owned()),
                _ => Failure::of_io(&error),
            })?;
        }
        Ok(stream)
    }

    /// Says who asks, and chooses the database.
    fn begin(&self, wire: &mut Wire, password: Option<&[u8]>) -> Result<(), Failure> {
        let user = self.redis.user.as_deref().map(str::as_bytes);
        let password = password.or(user.map(|_| &b""[..]));
        if let Some(password) = password {
            match user {
                Some(user) => wire.send(&[&[b"AUTH", user, password]])?,
                None => wire.send(&[&[b"AUTH", password]])?,
            }
            wire.done().map_err(|unread| match unread {
                // Before version 6: ERR.
                Unread::Refusal(refusal) if refusal.says("invalid password") => {
                    Failure::Refused("WRONGPASS".to_owned())
                }
                unread => unread.into(),
            })?;
        }
        if self.redis.database != 0 {
            wire.send(&[&[b"SELECT", self.redis.database.to_string().as_bytes()]])?;
            wire.done().map_err(|unread| match unread {
                Unread::Refusal(refusal) if NO_DATABASE.iter().any(|it| refusal.says(it)) => {
                    Failure::Database(self.redis.database)
                }
                unread => unread.into(),
            })?;
        }
        // Shows that it is Redis and lets this client in. What TLS sends after its handshake is read with the reply.
        wire.send(&[&[b"PING"]])?;
        match wire.done() {
            Err(Unread::Refusal(refusal)) if refusal.says("NOPERM") => Ok(()),
            done => Ok(done?),
        }
    }
}

/// A connection to the first of the addresses that takes one. Each has its part of the time.
fn connected(addresses: &[SocketAddr], deadline: Instant) -> Result<Socket, Failure> {
    let mut last = Failure::Connect("the name has no address".to_owned());
    for (index, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let parts = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let part = left / parts;
        if part.is_zero() {
            return Err(Failure::Timeout);
        }
        match Socket::connect(*address, part) {
            Ok(mut socket) => {
                socket.set_deadline(deadline);
                return Ok(socket);
            }
            Err(error) if error.kind() == ErrorKind::TimedOut => last = Failure::Timeout,
            Err(error) => last = Failure::Connect(error.to_string()),
        }
    }
    Err(last)
}

/// The password, without the line feed that an editor leaves at its end. The file is read anew for each connection, so that a
/// changed Secret counts.
fn read_password(named: &NamedPath) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| Failure::Password {
        path: named.as_path().to_owned(),
        reason: error.to_string(),
    };
    let (directory, name) = named.parent().map_err(failed)?;
    let file = directory.readable_file(Path::new(&name)).map_err(failed)?;
    let mut password = read_whole(&file).map_err(failed)?;
    while password.last().is_some_and(|byte| b"\r\n".contains(byte)) {
        password.pop();
    }
    Ok(password)
}

fn read_whole(file: &File) -> io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let bytes = read_at_most(file, PASSWORD_BYTES)?;
    bytes.ok_or_else(|| io::Error::other("it is longer than 4 KiB"))
}

#[cfg(test)]
mod tests {
    use grants::Grants;
    use plan::KeyValue;

    use super::*;

    fn connector() -> Arc<Connector> {
        let Ok(KeyValue::Redis(redis)) = KeyValue::annotated("redis://127.0.0.1:1") else {
            panic!("is a URL")
        };
        let (guard, roots) = (Guard::new(Grants::default()), Arc::new(Roots::new(None, None)));
        Arc::new(Connector { redis, password: None, guard, roots })
    }

    #[test]
    fn what_was_found_out_for_an_earlier_call_counts_only_for_a_moment() {
        let found = |since| {
            let (sender, receiver) = sync_channel(1);
            sender.send((since, Err(Failure::Denied))).expect("there is room");
            let mut preparing = Some(Preparing(receiver));
            let deadline = Instant::now() + Duration::from_secs(30);
            connector().prepared(&mut preparing, deadline).map(|it| it.addresses)
        };
        let long_ago = Instant::now().checked_sub(Duration::from_secs(10));
        let address = "127.0.0.1:1".parse().expect("an address");
        assert_eq!(found(long_ago.expect("the machine runs for longer")), Ok(vec![address]));
        assert_eq!(found(Instant::now()), Err(Failure::Denied));
    }

    #[test]
    fn a_look_up_that_hangs_is_waited_for_until_the_deadline_and_never_begun_again() {
        let (sender, receiver) = sync_channel::<Found>(1);
        let mut preparing = Some(Preparing(receiver));
        for _ in 0..2 {
            let deadline = Instant::now() + Duration::from_millis(10);
            let found = connector().prepared(&mut preparing, deadline).map(|it| it.addresses);
            assert_eq!(found, Err(Failure::Timeout));
            assert!(preparing.as_ref().is_some_and(Preparing::hangs));
        }
        drop(sender);
        assert!(!preparing.expect("is kept").hangs());
    }
}
