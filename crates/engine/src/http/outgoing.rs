//! Requests that guests send, over TLS if needed. Connections are kept for the next request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use grants::Grants;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::{Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tokio::sync::{Mutex, Semaphore};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::timeout;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::body::TimeoutBody;
use super::connect::{Connector, Destination};
use super::errors;
use super::roots::Roots;
use super::tracing::Trace;
use crate::guard::Guard;

/// Time limit of each step if the guest sets none, as in Wasmtime.
const STEP: Duration = Duration::from_secs(600);

/// Time for which unused connections are kept, and their number for each host. Most servers close theirs after 5 s or more. A
/// request that is sent while the server closes the connection would be lost.
const IDLE: Duration = Duration::from_secs(4);
const IDLE_PER_HOST: usize = 32;

/// Longest response that is read as a whole, in bytes.
const MOST: usize = 1 << 20;

type Connections = Client<HttpsConnector<Connector>, Upload>;

/// Sends the requests of all guests of a container.
pub struct Outgoing {
    roots: Arc<Roots>,
    /// Permit to read the roots.
    reader: Arc<Semaphore>,
    /// Connections of guests. There are none before the first request, because most guests send none, and none while the
    /// server is idle.
    connections: Pool,
    /// Connections of the runtime's own requests.
    own: Pool,
}

/// Connections that are kept, and the guard that compares their destinations with the grants.
struct Pool {
    guard: Arc<Guard>,
    connections: Mutex<Option<Connections>>,
}

impl Pool {
    fn new(guard: Arc<Guard>) -> Pool {
        Pool { guard, connections: Mutex::default() }
    }
}

/// Sends the requests of one instance, through the interface of `wasmtime-wasi-http`.
pub struct Hooks {
    outgoing: Arc<Outgoing>,
    /// Trace of the request that the instance serves.
    pub trace: Option<Trace>,
    /// Whether the scheme of that request is `https`.
    pub is_https: bool,
    /// Whether the instance has ended.
    has_ended: Arc<AtomicBool>,
}

impl Hooks {
    /// Makes the hooks of an instance.
    pub fn new(outgoing: Arc<Outgoing>) -> Hooks {
        Hooks { outgoing, trace: None, is_https: false, has_ended: Arc::default() }
    }

    /// What it sends with.
    pub fn outgoing(&self) -> &Arc<Outgoing> {
        &self.outgoing
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Release);
    }
}

/// Result of a request: the response, and the later result of its connection.
type Sent = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>), Error>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        mut request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let outgoing = self.outgoing.clone();
        if let Some(trace) = &self.trace {
            trace.go_on(request.headers_mut());
        }
        let has_ended = self.has_ended.clone();
        let request = request.map(|body| Upload { body, has_ended });
        Box::new(async move {
            let response = outgoing.send(request, options, &outgoing.connections).await?;
            // Other requests share the connection, so an error of the connection is reported through the body.
            let connection: Box<dyn Future<Output = _> + Send> = Box::new(async { Ok(()) });
            Ok((response, connection))
        })
    }
}

impl Outgoing {
    /// Uses these roots for TLS. The guard compares guests' requests. The runtime's own requests are compared with what the
    /// grants allow to the runtime.
    pub fn new(roots: Arc<Roots>, guard: Arc<Guard>, grants: &Grants) -> Outgoing {
        Outgoing {
            roots,
            reader: Arc::new(Semaphore::new(1)),
            connections: Pool::new(guard),
            own: Pool::new(Arc::new(Guard::new(grants.of_runtime()))),
        }
    }

    /// Closes the kept connections while no guest runs. The task of a connection ends with its last request.
    pub fn release(&self) {
        for pool in [&self.connections, &self.own] {
            if let Ok(mut connections) = pool.connections.try_lock() {
                *connections = None;
            }
        }
        self.roots.release();
    }

    /// Configuration of TLS, for requests and for guests themselves. `None` if the roots cannot be used.
    pub async fn tls(&self) -> Option<Arc<ClientConfig>> {
        let (roots, reader) = (self.roots.clone(), self.reader.clone());
        let reader = reader.acquire_owned().await.ok()?;
        // The file may be on a volume whose server does not answer. Then one thread waits for it, however many requests give up.
        let config = spawn_blocking(move || {
            let _reader = reader;
            roots.client()
        });
        config.await.ok()?.ok()
    }

    async fn connections(&self, pool: &Pool) -> Result<Connections, Error> {
        let mut connections = pool.connections.lock().await;
        if let Some(connections) = &*connections {
            return Ok(connections.clone());
        }
        Ok(connections.insert(self.connect(pool.guard.clone()).await?).clone())
    }

    async fn connect(&self, guard: Arc<Guard>) -> Result<Connections, Error> {
        let tls = self.tls().await.ok_or(Error::ConfigurationError)?;
        let tls = Arc::unwrap_or_clone(tls);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        Ok(Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .build(connector.wrap_connector(Connector::new(guard))))
    }

    /// Sends a request of the runtime itself, and returns the whole response within the time limit.
    ///
    /// # Errors
    /// As for a guest's request. [`Error::HttpResponseBodySize`] if the response has more than [`MOST`] bytes.
    pub async fn exchange(
        &self,
        request: Request<Bytes>,
        time: Duration,
    ) -> Result<Response<Bytes>, Error> {
        let request = request.map(|body| {
            let body = Full::from(body).map_err(|never| match never {}).boxed_unsync();
            Upload { body, has_ended: Arc::default() }
        });
        let exchange = async {
            let (head, body) = self.send(request, None, &self.own).await?.into_parts();
            let body = Limited::new(body, MOST).collect().await;
            let body = body.map_err(|error| match error.downcast::<Error>() {
                Ok(error) => *error,
                Err(_) => Error::HttpResponseBodySize(None),
            })?;
            Ok(Response::from_parts(head, body.to_bytes()))
        };
        timeout(time, exchange).await.map_err(|_| Error::HttpResponseTimeout)?
    }

    async fn send(
        &self,
        mut request: Request<Upload>,
        options: Option<RequestOptions>,
        pool: &Pool,
    ) -> Result<Response<WasiBody>, Error> {
        let options = options.unwrap_or_default();
        if request.uri().authority().is_none() {
            return Err(Error::HttpRequestUriInvalid);
        }
        // The connector compares the destination as well, but a kept connection does not use the connector.
        let destination = Destination::of(request.uri());
        if destination.is_some_and(|destination| !destination.is_granted(&pool.guard)) {
            return Err(Error::HttpRequestDenied);
        }
        let patience = options.connect_timeout.unwrap_or(STEP);
        let mut connection = capture_connection(&mut request);
        let connections = timeout(patience, self.connections(pool)).await;
        let connections = connections.map_err(|_| Error::ConnectionTimeout)??;
        // While a guest computed for long, the event loop could not see which connections were closed.
        yield_now().await;
        let mut response = std::pin::pin!(connections.request(request));
        let connected = connection.wait_for_connection_metadata();
        tokio::select! {
            biased;
            answer = response.as_mut() => return with_patience(answer, &options),
            connected = timeout(patience, connected) => {
                connected.map(drop).map_err(|_| Error::ConnectionTimeout)?;
            }
        }
        let first_byte = options.first_byte_timeout.unwrap_or(STEP);
        let answer = timeout(first_byte, response).await;
        with_patience(answer.map_err(|_| Error::ConnectionReadTimeout)?, &options)
    }
}

/// Limits the waits for a response's body to the time that the guest has set.
fn with_patience(
    answer: Result<Response<Incoming>, ClientError>,
    options: &RequestOptions,
) -> Result<Response<WasiBody>, Error> {
    let patience = options.between_bytes_timeout.unwrap_or(STEP);
    let response = answer.map_err(|error| errors::of_sending(&error))?;
    let error = errors::of_response_body;
    Ok(response.map(|body| TimeoutBody::new(body, patience, error).boxed_unsync()))
}

/// Body of a request that a guest sends. It breaks off if its instance ends first. This is needed because a closed stream of 0.3
/// does not show whether the guest closed it. [`crate::state::State`] aborts an unfinished body of 0.2.
struct Upload {
    body: WasiBody,
    has_ended: Arc<AtomicBool>,
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        let is_cut = frame.is_none() && self.has_ended.load(Ordering::Acquire);
        Poll::Ready(if is_cut { Some(Err(Error::ConnectionTerminated)) } else { frame })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn what_an_instance_has_not_ended_breaks_off_with_it() {
        let tokio = Builder::new_current_thread().build().expect("a runtime");
        let ends_well = |has_ended| {
            let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
            let mut upload = Upload { body, has_ended: Arc::new(AtomicBool::new(has_ended)) };
            tokio.block_on(upload.frame()).is_none_or(|frame| frame.is_ok())
        };
        assert!(ends_well(false));
        assert!(!ends_well(true));
    }
}
