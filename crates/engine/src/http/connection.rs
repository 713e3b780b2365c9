//! A connection: which HTTP it speaks, how long it may be silent, and how it ends.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use plan::HttpSettings;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use wasmtime_wasi_http::WasiBody;

use super::client::Client;
use super::head::MAX_HEADERS;
use super::idle::{Idle, Speaks, watched};
use super::service::{Service, respond};
use super::share::Requests;
use super::streams::Streams;
use super::wire::{First, Wire};

/// How long a client may be silent when the server ends.
const LAST_SILENCE: Duration = Duration::from_secs(1);

/// Factor by which h2 accepts larger heads than allowed, so that `head` answers them with 431; h2 resets streams with still
/// larger ones.
const LARGER_HEAD: u32 = 2;

/// Time without a request after which a connection leaves its thread. It is looked at that often, too.
const SETTLED: Duration = Duration::from_secs(1);

/// A connection that a client has made. `R` answers a request of HTTP/2, wherever that is best done.
pub struct Connection<R> {
    /// The service of its own thread.
    pub service: Arc<Service>,
    /// Answers a request of a connection that has many at a time.
    pub respond: R,
    /// Whether the server ends.
    pub ending: watch::Receiver<bool>,
}

/// A request in flight, boxed so that an idle connection needs no memory for one.
pub type Responding =
    Pin<Box<dyn Future<Output = Result<Response<WasiBody>, std::convert::Infallible>> + Send>>;

impl<R> Connection<R>
where
    R: Fn(Arc<Client>, Request<Incoming>) -> Responding,
{
    /// Serves it until either side ends it; or returns it, if its client leaves it idle.
    pub async fn serve(mut self, idle: Idle) -> Option<Idle> {
        let Idle { stream, speaks, until } = idle;
        let mut stream = watched(stream)?;
        // Responses are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let first = match speaks {
            // They were seen. hyper must have them before the server ends: it closes a connection of which it has seen nothing.
            Speaks::Http1 => {
                timeout(LAST_SILENCE, First::read_some(&mut stream)).await.ok()?.ok()?
            }
            Speaks::Unknown if self.is_silent(&stream).await => {
                return stream.into_std().ok().map(|stream| Idle { stream, speaks, until });
            }
            // A client that says nothing, or is gone.
            Speaks::Unknown => self.first_bytes(&mut stream, until).await?,
        };
        let service = self.service.clone();
        let address = service.observer.as_ref().and_then(|_| stream.peer_addr().ok());
        let local = stream.local_addr().ok();
        let is_http2 = speaks == Speaks::Unknown && first.is_http2();
        let requests = is_http2.then(Requests::default);
        let client = Arc::new(Client::new(address, local, requests));
        let wire = Wire::new(stream, first, service.settings.idle_time, client.clone());
        if is_http2 {
            self.serve_http2(wire, &service, client).await;
            return None;
        }
        self.serve_http1(wire, service, client).await
    }

    /// Serves until the connection ends, or until its client has left it idle for a while. hyper's
    /// state of an idle connection is that of a new one, so the one that is bound to this event loop can be dropped.
    async fn serve_http1(
        mut self,
        mut wire: Wire,
        service: Arc<Service>,
        client: Arc<Client>,
    ) -> Option<Idle> {
        let idle_time = service.settings.idle_time;
        loop {
            let was_ending = *self.ending.borrow_and_update();
            let builder = http1_builder(&service.settings, was_ending);
            let respond = |request: Request<Incoming>| -> Responding {
                Box::pin(respond(service.clone(), client.clone(), request))
            };
            let mut connection = builder.serve_connection(TokioIo::new(wire), service_fn(respond));
            // The connection is polled first, so that requests already sent are read before it shuts down.
            tokio::select! {
                biased;
                is_idle = until_idle(&mut connection, &client) => if !is_idle { return None },
                _ = self.ending.changed() => {
                    // The event loop of a busy thread may not have heard yet of what the client has sent.
                    tokio::select! {
                        biased;
                        _ = &mut connection => return None,
                        () = yield_now() => {}
                    }
                    Pin::new(&mut connection).graceful_shutdown();
                    let _ = connection.await;
                    return None;
                }
            }
            let http1::Parts { io, read_buf, .. } = connection.into_parts();
            wire = io.into_inner();
            if read_buf.is_empty() {
                // Without a descriptor for it, the connection is closed.
                let stream = wire.socket().ok()?;
                let until = Instant::now() + idle_time.saturating_sub(SETTLED);
                return Some(Idle { stream, speaks: Speaks::Http1, until });
            }
            // A part of the next request came with the one before.
            wire.unread(read_buf);
        }
    }

    async fn serve_http2(mut self, wire: Wire, service: &Service, client: Arc<Client>) {
        let HttpSettings { idle_time, head, .. } = service.settings;
        let streams = Streams::new(idle_time);
        let respond = self.respond;
        let respond = |request: Request<Incoming>| respond(client.clone(), request);
        let mut builder = http2::Builder::new(streams.clone());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(idle_time)
            .max_header_list_size(head.saturating_mul(LARGER_HEAD))
            .max_concurrent_streams(service.room.streams());
        let connection = builder.serve_connection(TokioIo::new(wire), service_fn(respond));
        let mut connection = pin!(connection);
        let mut silence = pin!(sleep(idle_time));
        let mut is_closing = *self.ending.borrow_and_update();
        if is_closing {
            connection.as_mut().graceful_shutdown();
        }
        // A connection without streams is closed after `idle_time`, as with HTTP/1.1, whether or not its client pings. Data of
        // finished streams that the client has not read by a further `idle_time` is dropped.
        loop {
            tokio::select! {
                biased;
                _ = connection.as_mut() => return,
                _ = self.ending.changed(), if !is_closing => {
                    connection.as_mut().graceful_shutdown();
                    is_closing = true;
                }
                () = silence.as_mut() => {
                    let since = streams.none_since();
                    match since.is_some_and(|since| since.elapsed() >= idle_time) {
                        true if is_closing => return,
                        true => {
                            connection.as_mut().graceful_shutdown();
                            is_closing = true;
                            silence.as_mut().reset(Instant::now() + idle_time);
                        }
                        false => {
                            let since = since.map_or_else(Instant::now, Instant::from_std);
                            silence.as_mut().reset(since + idle_time);
                        }
                    }
                }
            }
        }
    }

    /// Whether a new connection stays without a byte.
    async fn is_silent(&mut self, stream: &TcpStream) -> bool {
        tokio::select! {
            _ = stream.readable() => false,
            _ = self.ending.changed() => false,
            () = sleep(SETTLED) => true,
        }
    }

    /// None where there are none in time.
    async fn first_bytes(&mut self, stream: &mut TcpStream, until: Instant) -> Option<First> {
        let mut first = pin!(First::read(stream));
        let silence = self.service.settings.idle_time;
        let is_ending = *self.ending.borrow_and_update();
        if !is_ending {
            tokio::select! {
                found = timeout_at(until, first.as_mut()) => return found.ok()?.ok(),
                // It may have been sent, and not be noticed yet.
                _ = self.ending.changed() => {}
            }
        }
        timeout(LAST_SILENCE.min(silence), first).await.ok()?.ok()
    }
}

/// Drives a connection of HTTP/1.1 until it ends, or until its client has left it idle for a while. Returns whether it is idle.
async fn until_idle(mut connection: impl Future + Unpin, client: &Client) -> bool {
    let mut quiet_since = None;
    loop {
        // Errors need no report: the client went away or does not speak HTTP, or a response broke off, which the access log
        // says.
        tokio::select! {
            biased;
            _ = &mut connection => return false,
            () = sleep(SETTLED) => {}
        }
        let before = quiet_since;
        quiet_since = client.traffic.quiet_since().filter(|_| client.is_idle());
        if quiet_since.is_some() && quiet_since == before {
            return true;
        }
    }
}

fn http1_builder(settings: &HttpSettings, is_ending: bool) -> http1::Builder {
    let HttpSettings { idle_time, head, .. } = *settings;
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(if is_ending { LAST_SILENCE.min(idle_time) } else { idle_time })
        .max_headers(MAX_HEADERS)
        .max_header_size(head as usize)
        .max_buf_size(head as usize)
        .keep_alive(!is_ending);
    builder
}
