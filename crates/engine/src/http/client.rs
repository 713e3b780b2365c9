//! The client of a connection, as the requests of the connection see it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use super::share::Requests;

/// Properties of a connection that its requests share.
pub struct Client {
    /// Its address; none if no observer needs it.
    pub address: Option<SocketAddr>,
    /// The server's address on this connection.
    pub local: Option<SocketAddr>,
    /// Its requests in flight; none for HTTP/1.1.
    pub requests: Option<Requests>,
    is_reset: AtomicBool,
}

impl Client {
    /// Of a connection that goes on.
    pub fn new(
        address: Option<SocketAddr>,
        local: Option<SocketAddr>,
        requests: Option<Requests>,
    ) -> Client {
        Client { address, local, requests, is_reset: AtomicBool::new(false) }
    }

    /// Makes the connection end with a reset.
    pub fn reset(&self) {
        self.is_reset.store(true, Ordering::Relaxed);
    }

    /// Whether the connection must end with a reset.
    pub fn is_reset(&self) -> bool {
        self.is_reset.load(Ordering::Relaxed)
    }
}
