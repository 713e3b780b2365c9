//! Serves HTTP with a guest of `wasi:http` 0.2 or 0.3: a fresh instance for each request.
//!
//! ```text
//! listen → accept → connection (HTTP/1.1 or h2c) → request → instance → response
//!             └ SIGTERM, SIGINT: stop accepting, let connections finish their requests, exit 0;
//!                                a second one ends the process at once
//! ```

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use wasmtime::component::Component;
use wasmtime::error::Context as _;
use wasmtime::{Engine, Store, StoreContextMut};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, InstantiationError, ProxyHandler, ProxyPre, ShouldAccept,
    WorkerExpiration, WorkerState, WorkerStatus,
};
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::plan::LISTEN;
use crate::report::{self, tell};
use crate::state::State;
use crate::{Plan, Runtime, World, host_calls, signals};

/// The port where nothing else is said, as in runwasi and `wasmtime serve`.
const PORT: u16 = 8080;

/// Threads that serve. More of one address space slow each other down: every instance's memory is mapped
/// and unmapped, and each time the other cores are interrupted.
const MAX_THREADS: usize = 4;

/// After accept(2) failed for want of descriptors or memory: others end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until SIGTERM or SIGINT.
pub fn serve(
    runtime: &Runtime,
    plan: &Plan,
    component: &Component,
    signals: SigSet,
) -> wasmtime::Result<u8> {
    let pre = runtime.components.instantiate_pre(component)?;
    let pre = match plan.world {
        World::HttpService03 => {
            ProxyPre::P3(wasmtime_wasi_http::p3::bindings::ServicePre::new(pre)?)
        }
        _ => ProxyPre::P2(wasmtime_wasi_http::p2::bindings::ProxyPre::new(pre)?),
    };
    let guest = Guest { engine: runtime.engine.clone(), plan: Arc::new(plan.clone()), pre };
    let stop = signals::tell_the_first(signals).context("wait for signals")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let tokio = Builder::new_multi_thread()
        .worker_threads(threads)
        // For as long as the thread lives.
        .on_thread_start(|| std::mem::forget(host_calls::note()))
        .enable_all()
        .build();
    let tokio = tokio.context("start the threads that serve HTTP")?;
    let served = tokio.block_on(accept(plan, ProxyHandler::new(guest), stop));
    // A guest may still be in a loop of its own; its thread is not waited for.
    tokio.shutdown_background();
    served.map(|()| 0)
}

type Handler = ProxyHandler<Guest>;

/// Accepts connections until it is told to stop, and then lets them finish.
async fn accept(
    plan: &Plan,
    handler: Handler,
    mut stop: oneshot::Receiver<Signal>,
) -> wasmtime::Result<()> {
    let listener = listen(plan)?;
    trace::last("listens");
    let connections = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connection(stream, &connections, handler.clone()),
                Err(error) => {
                    tell(&format!("warning: accept a connection: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = &mut stop => break,
        }
    }
    drop(listener);
    connections.shutdown().await;
    Ok(())
}

/// The plan's address; else every address, of IPv4 alone where there is no IPv6.
fn listen(plan: &Plan) -> wasmtime::Result<TcpListener> {
    let bind = |address| {
        bind(address, plan.http.backlog).with_context(|| {
            format!("listen on {address} for HTTP (env {LISTEN} sets another address and port)")
        })
    };
    match plan.http.listen {
        Some(address) => bind(address),
        None => match bind((Ipv6Addr::UNSPECIFIED, PORT).into()) {
            Err(_) if !has_ipv6() => bind((Ipv4Addr::UNSPECIFIED, PORT).into()),
            other => other,
        },
    }
}

fn bind(address: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    if address.is_ipv6() {
        // `[::]` is for IPv4 as well, whatever the node's net.ipv6.bindv6only says.
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Whether this network namespace has IPv6: any port of the loopback address will do.
fn has_ipv6() -> bool {
    std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn connection(stream: TcpStream, connections: &GracefulShutdown, handler: Handler) {
    // Responses are written whole; waiting for more to send would only delay them.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| respond(handler.clone(), request));
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    let connection = connections.watch(connection);
    // An error here is the client's: it went away or spoke something else.
    tokio::spawn(async move { connection.await.ok() });
}

/// Says whether a failure of the instance has been told: by then the instance has ended.
type Told = oneshot::Sender<bool>;

async fn respond(
    handler: Handler,
    request: Request<Incoming>,
) -> Result<Response<WasiBody>, Infallible> {
    let request = request.map(|body| body.map_err(wasmtime_wasi_http::Error::from).boxed_unsync());
    let (told, ended) = oneshot::channel();
    match handler.handle(told, request).await {
        Ok(response) => return Ok(response),
        Err(error) => match error.downcast_ref::<InstantiationError<Told>>() {
            Some(failure) => tell(&report::text(&failure.error)),
            // After a trap this error says only that there is no response.
            None if ended.await.unwrap_or(false) => {}
            None => tell(&report::text(&error)),
        },
    }
    Ok(failed())
}

/// What the client is told of a guest that failed: nothing of its inside.
fn failed() -> Response<WasiBody> {
    let body = Full::from("internal server error\n").map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// The guest, ready to be instantiated.
struct Guest {
    engine: Engine,
    plan: Arc<Plan>,
    pre: ProxyPre<State>,
}

impl HandlerState for Guest {
    type StoreData = State;
    type WorkerExpiration = AfterItsRequest;
    type WorkerState = OneRequest;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, AfterItsRequest, OneRequest>> {
        // What this thread did for the request before is not this one's.
        host_calls::forget();
        let mut store = State::store(&self.engine, &self.plan)?;
        let proxy = self.pre.instantiate_async(&mut store).await?;
        let (expiration, state) = (AfterItsRequest, OneRequest::new(self.plan.clone()));
        Ok(Instance { store, proxy, view: State::http, expiration, state })
    }
}

/// An instance ends when nothing is left to do for its request.
struct AfterItsRequest;

impl WorkerExpiration for AfterItsRequest {
    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        status: WorkerStatus,
        _: Instant,
    ) -> Poll<()> {
        match status {
            WorkerStatus::Idle => Poll::Ready(()),
            WorkerStatus::Requests | WorkerStatus::PostReturn => Poll::Pending,
        }
    }
}

/// An instance is for one request: nothing is shared between requests.
struct OneRequest {
    plan: Arc<Plan>,
    told: Mutex<Option<Told>>,
}

impl OneRequest {
    fn new(plan: Arc<Plan>) -> OneRequest {
        OneRequest { plan, told: Mutex::default() }
    }
}

impl WorkerState for OneRequest {
    type StoreData = State;
    type RequestData = Told;

    fn should_accept_request(&self, _: usize, total: usize) -> ShouldAccept {
        if total == 0 { ShouldAccept::Yes } else { ShouldAccept::Never }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, State>,
        told: Told,
        _: wasmtime::component::GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).replace(told);
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<State>, result: wasmtime::Result<()>) {
        match &result {
            Ok(()) => drop(store),
            Err(error) => {
                tell(&report::text(error));
                self.plan.leave_core_dump(store, error);
            }
        }
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Nobody waits where the response was sent before.
        let _ = told.map(|told| told.send(result.is_err()));
    }
}
