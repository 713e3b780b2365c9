//! `wasi:tls`: the client side of TLS over streams that a guest has, by `wasmtime-wasi-tls`.
//!
//! The streams are those of the guest's own sockets, which are compared with its grants. Certificates are those that outgoing
//! HTTP trusts, so the provider is one of our own: that of `wasmtime-wasi-tls` trusts Mozilla's list alone.
//!
//! `0.3.0-draft` is not provided: `wasmtime-wasi-tls` 48 has it as an experiment that gets no fixes of security bugs.

use std::pin::Pin;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use wasmtime::component::Linker;
use wasmtime_wasi_tls::p2::{LinkOptions, add_to_linker};
use wasmtime_wasi_tls::{
    Error, TlsProvider, TlsStream, TlsTransport, WasiTlsCtx, WasiTlsCtxBuilder,
};

use crate::http::outgoing::Outgoing;
use crate::state::State;

/// The name by which a component imports it.
pub const NAME: &str = "wasi:tls/types@0.2.0-draft";

/// Defines the interface.
pub fn define(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    add_to_linker(linker, LinkOptions::default().tls(true))
}

/// What an instance needs for it.
pub fn context(outgoing: Arc<Outgoing>) -> WasiTlsCtx {
    WasiTlsCtxBuilder::new().provider(Box::new(Provider(outgoing))).build()
}

/// TLS with the certificates of outgoing HTTP.
struct Provider(Arc<Outgoing>);

/// A handshake, to its result.
type Handshake = Pin<Box<dyn Future<Output = Result<Box<dyn TlsStream>, Error>> + Send>>;

impl TlsProvider for Provider {
    fn connect(&self, server_name: String, transport: Box<dyn TlsTransport>) -> Handshake {
        let outgoing = self.0.clone();
        Box::pin(async move {
            let name = ServerName::try_from(server_name).map_err(Error::msg)?;
            let no_tls = || Error::msg("the certificates cannot be read");
            let config = outgoing.tls().await.ok_or_else(no_tls)?;
            let connected = TlsConnector::from(config).connect(name, transport).await;
            Ok(Box::new(connected.map_err(Error::msg)?) as Box<dyn TlsStream>)
        })
    }
}
