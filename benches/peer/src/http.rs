//! Serves `wasi:http` 0.2 on port 8080, with a fresh instance for each request.

use std::sync::Arc;

use anyhow::Result;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use wasmtime::Store;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use crate::State;

/// Export of a component of the world `wasi:http/proxy`.
pub const HANDLER: &str = "wasi:http/incoming-handler@0.2.0";

/// Serves until SIGTERM.
pub async fn serve(
    linker: &Linker<State>,
    component: &Component,
    state: impl Fn() -> Result<State> + Send + Sync + 'static,
) -> Result<i32> {
    let state = Arc::new(state);
    let pre = Arc::new(ProxyPre::new(linker.instantiate_pre(component)?)?);
    let listener = TcpListener::bind("0.0.0.0:8080").await?;
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = terminate.recv() => return Ok(0),
        };
        let (pre, state) = (pre.clone(), state.clone());
        tokio::spawn(async move {
            let respond = |request| respond(&pre, state(), request);
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(respond)).await
        });
    }
}

async fn respond(
    pre: &ProxyPre<State>,
    state: Result<State>,
    request: Request<Incoming>,
) -> Result<Response<HyperOutgoingBody>> {
    let mut store = Store::new(pre.engine(), state?);
    let (sender, receiver) = oneshot::channel();
    let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
    let response = store.data_mut().http().new_response_outparam(sender)?;
    let pre = pre.clone();
    let task = tokio::spawn(async move {
        let proxy = pre.instantiate_async(&mut store).await?;
        proxy.wasi_http_incoming_handler().call_handle(store, request, response).await
    });
    match receiver.await {
        Ok(response) => Ok(response?),
        Err(_) => {
            task.await??;
            anyhow::bail!("the guest gave no response")
        }
    }
}
