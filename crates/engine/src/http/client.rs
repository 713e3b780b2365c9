//! The client of a connection: properties that the requests of the connection share.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::share::Requests;
use super::wire::Traffic;

/// Properties of a connection that its requests share.
pub struct Client {
    /// Its address; none if no observer needs it.
    pub address: Option<SocketAddr>,
    /// The server's address on this connection.
    pub local: Option<SocketAddr>,
    /// Its requests in flight; none for HTTP/1.1.
    pub requests: Option<Requests>,
    /// What was read from it and written to it.
    pub traffic: Traffic,
    is_reset: AtomicBool,
    /// Requests that are not read to their end, and responses that are not over.
    open: AtomicUsize,
    /// Whether the body of a request was not read to its end, so that what follows may be the rest of it.
    has_unread_body: AtomicBool,
}

/// Request or response that is not over yet.
pub struct Open(Arc<Client>);

/// Body of a request that was not read to its end yet.
pub struct Unread {
    client: Open,
    is_read: bool,
}

impl Client {
    /// Of a connection that goes on.
    pub fn new(
        address: Option<SocketAddr>,
        local: Option<SocketAddr>,
        requests: Option<Requests>,
    ) -> Client {
        Client {
            address,
            local,
            requests,
            traffic: Traffic::default(),
            is_reset: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            has_unread_body: AtomicBool::new(false),
        }
    }

    /// Notes a request or a response, until it is over.
    pub fn open(self: &Arc<Client>) -> Open {
        self.open.fetch_add(1, Ordering::SeqCst);
        Open(self.clone())
    }

    /// Whether each request was read to its end and has been answered.
    pub fn is_idle(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0 && !self.has_unread_body.load(Ordering::SeqCst)
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

impl Deref for Open {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Unread {
    /// The body of a request that begins.
    pub fn new(client: &Arc<Client>) -> Unread {
        Unread { client: client.open(), is_read: false }
    }

    /// Notes that the body has ended.
    pub fn read(mut self) {
        self.is_read = true;
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        if !self.is_read {
            self.client.0.has_unread_body.store(true, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_when_requests_were_read_and_responses_are_over() {
        let client = Arc::new(Client::new(None, None, None));
        let (response, body) = (client.open(), Unread::new(&client));
        drop(response);
        assert!(!client.is_idle(), "the request is not read yet");
        body.read();
        assert!(client.is_idle());
        drop(Unread::new(&client));
        assert!(!client.is_idle(), "the rest of a body may follow");
        Unread::new(&client).read();
        assert!(!client.is_idle(), "nor is it after a further request");
    }
}
