//! Serves HTTP with a guest of `wasi:http` 0.2 or 0.3: a fresh instance for each request.
//!
//! ```text
//! listen → accept → connection (HTTP/1.1 or h2c) → request → instance → response
//!             └ SIGTERM, SIGINT: stop accepting, let connections finish their requests, exit 0
//! ```

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wasmtime::component::Component;
use wasmtime::{Engine, Store, StoreContextMut};
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyHandler, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState,
    WorkerStatus,
};
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

use crate::run::tell;
use crate::state::State;
use crate::{Plan, Runtime, World, report};

/// The port where nothing else is said, as in runwasi and `wasmtime serve`.
const PORT: u16 = 8080;

/// Threads that serve. More of one address space slow each other down: every instance's memory is mapped
/// and unmapped, and each time the other cores are interrupted.
const MAX_THREADS: usize = 4;

/// After accept(2) failed for want of descriptors or memory: others end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until SIGTERM or SIGINT.
pub fn serve(runtime: &Runtime, plan: &Plan, component: &Component) -> wasmtime::Result<u8> {
    let pre = runtime.components.instantiate_pre(component)?;
    let pre = match plan.world {
        World::Http03 => ProxyPre::P3(wasmtime_wasi_http::p3::bindings::ServicePre::new(pre)?),
        _ => ProxyPre::P2(wasmtime_wasi_http::p2::bindings::ProxyPre::new(pre)?),
    };
    let guest = Guest { engine: runtime.engine.clone(), plan: plan.clone(), pre };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let tokio = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let served = tokio.block_on(accept(plan, ProxyHandler::new(guest)));
    // A guest may still be in a loop of its own; its thread is not waited for.
    tokio.shutdown_background();
    served.map(|()| 0)
}

type Handler = ProxyHandler<Guest>;

async fn accept(plan: &Plan, handler: Handler) -> wasmtime::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let listener = listen(plan)?;
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
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    drop(listener);
    tokio::select! {
        () = connections.shutdown() => {}
        () = again(&mut terminate, &mut interrupt) => {}
    }
    Ok(())
}

async fn again(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// The plan's address; else every address, of IPv4 alone where there is no IPv6.
fn listen(plan: &Plan) -> wasmtime::Result<TcpListener> {
    let bind = |address| {
        bind(address, plan.http.backlog)
            .map_err(|error| wasmtime::format_err!("listen on {address} for HTTP: {error}"))
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

async fn respond(
    handler: Handler,
    request: Request<Incoming>,
) -> Result<Response<WasiBody>, Infallible> {
    let request = request.map(|body| body.map_err(wasmtime_wasi_http::Error::from).boxed_unsync());
    Ok(handler.handle((), request).await.unwrap_or_else(|error| {
        tell(&report::text(&error));
        failed()
    }))
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
    plan: Plan,
    pre: ProxyPre<State>,
}

impl HandlerState for Guest {
    type StoreData = State;
    type WorkerExpiration = OneRequest;
    type WorkerState = OneRequest;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, OneRequest, OneRequest>> {
        let mut store = Store::new(&self.engine, State::new(&self.plan)?);
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance { store, proxy, view: State::http, expiration: OneRequest, state: OneRequest })
    }
}

/// An instance is for one request: nothing is shared between requests.
struct OneRequest;

impl WorkerExpiration for OneRequest {
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

impl WorkerState for OneRequest {
    type StoreData = State;
    type RequestData = ();

    fn should_accept_request(&self, _: usize, total: usize) -> ShouldAccept {
        if total == 0 { ShouldAccept::Yes } else { ShouldAccept::Never }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, State>,
        (): (),
        _: wasmtime::component::GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        Box::pin(std::future::pending())
    }

    fn drop(&self, store: Store<State>, result: wasmtime::Result<()>) {
        drop(store);
        // A failure before the response is told by `respond`; one after it has nobody else to tell it.
        if let Err(error) = result {
            tell(&report::text(&error));
        }
    }
}
