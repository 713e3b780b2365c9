//! A connection: which HTTP it speaks, how long it may be silent, and how it ends.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use wasmtime_wasi_http::WasiBody;

use super::client::Client;
use super::head::MAX_HEADERS;
use super::service::{Service, respond};
use super::settings::HttpSettings;
use super::share::Requests;
use super::streams::Streams;
use super::wire::{First, Wire};

/// How long a client may be silent when the server was told to end.
const LAST_SILENCE: Duration = Duration::from_secs(1);

/// Factor by which h2 accepts larger heads than allowed, so that `head` answers them with 431; h2 resets streams with still
/// larger ones.
const LARGER_HEAD: u32 = 2;

/// A connection that a client has made. `R` answers a request of HTTP/2, wherever that is best done.
pub struct Connection<R> {
    /// The service of its own thread.
    pub service: Arc<Service>,
    /// Answers a request of a connection that has many at a time.
    pub respond: R,
    /// Whether the server was told to end.
    pub ending: watch::Receiver<bool>,
}

/// A request in flight, boxed so that an idle connection needs no memory for one.
pub type Responding =
    Pin<Box<dyn Future<Output = Result<Response<WasiBody>, std::convert::Infallible>> + Send>>;

impl<R> Connection<R>
where
    R: Fn(Arc<Client>, Request<Incoming>) -> Responding,
{
    /// Serves it until either side ends it.
    pub async fn serve(mut self, mut stream: TcpStream) {
        // Responses are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        // A client that says nothing, or is gone.
        let Some(first) = self.first_bytes(&mut stream).await else { return };
        let service = self.service.clone();
        let address = service.observer.as_ref().and_then(|_| stream.peer_addr().ok());
        let local = stream.local_addr().ok();
        let is_http2 = first.is_http2();
        let requests = is_http2.then(Requests::default);
        let client = Arc::new(Client::new(address, local, requests));
        let wire = Wire::new(stream, first, service.settings.idle_time, client.clone());
        match is_http2 {
            true => self.serve_http2(wire, &service, client).await,
            false => self.serve_http1(wire, service, client).await,
        }
    }

    async fn serve_http1(mut self, wire: Wire, service: Arc<Service>, client: Arc<Client>) {
        let was_ending = *self.ending.borrow_and_update();
        let HttpSettings { idle_time, head, .. } = service.settings;
        let respond = |request: Request<Incoming>| -> Responding {
            Box::pin(respond(service.clone(), client.clone(), request))
        };
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(if was_ending { LAST_SILENCE.min(idle_time) } else { idle_time })
            .max_headers(MAX_HEADERS)
            .max_header_size(head as usize)
            .max_buf_size(head as usize)
            .keep_alive(!was_ending);
        let connection = builder.serve_connection(TokioIo::new(wire), service_fn(respond));
        let mut connection = pin!(connection);
        // Errors need no report: the client went away or does not speak HTTP, or a response broke off, which the access log
        // says. The connection is polled first, so that requests already sent are read before it shuts down.
        let _ = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            _ = self.ending.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
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

    /// None where there are none in time.
    async fn first_bytes(&mut self, stream: &mut TcpStream) -> Option<First> {
        let mut first = pin!(First::read(stream));
        let silence = self.service.settings.idle_time;
        let is_ending = *self.ending.borrow_and_update();
        if !is_ending {
            tokio::select! {
                found = timeout(silence, first.as_mut()) => return found.ok()?.ok(),
                // It may have been sent, and not be noticed yet.
                _ = self.ending.changed() => {}
            }
        }
        timeout(LAST_SILENCE.min(silence), first).await.ok()?.ok()
    }
}
