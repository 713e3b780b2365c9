//! Connections of requests, to addresses that are granted.
//!
//! The addresses of a host are compared when they are found, and the connection goes to one of those that were compared.
//! So a name that leads to another address a moment later (DNS rebinding) is of no use to a guest.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use grants::Scheme;
use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tower::{Service, service_fn};

use crate::guard::{Denied, Guard};

type BoxError = Box<dyn StdError + Send + Sync>;

/// Destination of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Destination {
    /// Of a URL; `None` if it has no host, or another scheme.
    pub fn of(uri: &Uri) -> Option<Destination> {
        let scheme = match uri.scheme_str()? {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        let port = uri.port_u16().unwrap_or_else(|| scheme.port());
        Some(Destination { scheme, host: uri.host()?.to_owned(), port })
    }

    /// Whether a request may be sent there, as far as the URL says.
    pub fn is_granted(&self, guard: &Guard) -> bool {
        guard.requests(self.scheme, &self.host, self.port)
    }

    async fn resolve(
        self,
        name: Name,
        guard: Arc<Guard>,
    ) -> Result<vec::IntoIter<SocketAddr>, BoxError> {
        let found = lookup_host((name.as_str(), self.port)).await?.collect();
        Ok(guard.addresses(self.scheme, &self.host, found)?.into_iter())
    }
}

/// Makes connections.
#[derive(Clone)]
pub struct Connector {
    guard: Arc<Guard>,
}

impl Connector {
    /// As far as this guard allows them.
    pub fn new(guard: Arc<Guard>) -> Connector {
        Connector { guard }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let guard = self.guard.clone();
        Box::pin(async move {
            let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
            let destination = Destination::of(&uri).ok_or_else(invalid)?;
            // The host may be an address, which is not looked up.
            if !destination.is_granted(&guard) {
                return Err(Denied.into());
            }
            let resolver = service_fn(move |name| destination.clone().resolve(name, guard.clone()));
            let mut tcp = HttpConnector::new_with_resolver(resolver);
            tcp.enforce_http(false);
            // What a guest has written is sent; waiting for more would only delay it.
            tcp.set_nodelay(true);
            Ok(tcp.call(uri).await?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_what_a_url_says() {
        let of = |text: &str| {
            let destination = Destination::of(&text.parse().expect("a URL"))?;
            Some((destination.host, destination.port))
        };
        assert_eq!(of("http://a/b"), Some(("a".into(), 80)));
        assert_eq!(of("https://a"), Some(("a".into(), 443)));
        assert_eq!(of("https://[::1]:8443/x"), Some(("[::1]".into(), 8443)));
        assert_eq!(of("ftp://a"), None);
        assert_eq!(of("/a"), None);
    }
}
