//! `wasi:tls`: the client side of TLS over streams that a guest has, by `wasmtime-wasi-tls`.
//!
//! The streams are those of the guest's own sockets, which are compared with its grants. Certificates are those that outgoing
//! HTTP trusts, so the provider is one of our own: that of `wasmtime-wasi-tls` trusts Mozilla's list alone. Its linker is not
//! used, because it keeps a server name of any length, and does not say which function was called.
//!
//! `0.3.0-draft` is not provided: `wasmtime-wasi-tls` 48 has it as an experiment that gets no fixes of security bugs.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as Client;
use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream};
use wasmtime_wasi_tls::p2::bindings::types::{
    HostClientConnection as _, HostClientHandshake as _, HostFutureClientStreams as _,
};
use wasmtime_wasi_tls::p2::{HostClientConnection, HostClientHandshake, HostFutureClientStreams};
use wasmtime_wasi_tls::{
    Error, TlsProvider, TlsStream, TlsTransport, WasiTlsCtx, WasiTlsCtxBuilder, WasiTlsView,
};

use super::resource;
use crate::host_calls;
use crate::http::outgoing::Outgoing;
use crate::memory::{Reserved, SETTINGS};
use crate::state::State;

/// The longest server name, in bytes: that of a DNS name in text (RFC 1035, section 2.3.4).
const NAME_BYTES: usize = 253;

/// What a connection takes, in bytes: the buffers of rustls, of the stream that the guest writes to, and the state of both.
const CONNECTION_BYTES: u64 = 128 << 10;

type Handshake = Resource<HostClientHandshake>;
type Connection = Resource<HostClientConnection>;
type Streams = Resource<HostFutureClientStreams>;

/// Defines the interface.
pub fn define(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    resource::<HostClientHandshake>(interface, "client-handshake")?;
    resource::<HostClientConnection>(interface, "client-connection")?;
    resource::<HostFutureClientStreams>(interface, "future-client-streams")?;
    interface.func_wrap(
        "[constructor]client-handshake",
        |mut store: StoreContextMut<'_, State>,
         (name, input, output): (String, Resource<DynInputStream>, Resource<DynOutputStream>)| {
            host_calls::enter("wasi:tls/types [constructor]client-handshake");
            Ok((store.data_mut().tls().new(kept(name), input, output)?,))
        },
    )?;
    interface.func_wrap(
        "[static]client-handshake.finish",
        |mut store: StoreContextMut<'_, State>, (handshake,): (Handshake,)| {
            host_calls::enter("wasi:tls/types [static]client-handshake.finish");
            Ok((store.data_mut().tls().finish(handshake)?,))
        },
    )?;
    interface.func_wrap(
        "[method]client-connection.close-output",
        |mut store: StoreContextMut<'_, State>, (connection,): (Connection,)| {
            host_calls::enter("wasi:tls/types [method]client-connection.close-output");
            store.data_mut().tls().close_output(connection)
        },
    )?;
    interface.func_wrap(
        "[method]future-client-streams.subscribe",
        |mut store: StoreContextMut<'_, State>, (streams,): (Streams,)| {
            host_calls::enter("wasi:tls/types [method]future-client-streams.subscribe");
            Ok((store.data_mut().tls().subscribe(streams)?,))
        },
    )?;
    interface.func_wrap(
        "[method]future-client-streams.get",
        |mut store: StoreContextMut<'_, State>, (streams,): (Streams,)| {
            host_calls::enter("wasi:tls/types [method]future-client-streams.get");
            Ok((store.data_mut().tls().get(streams)?,))
        },
    )
}

/// A server name as it is kept until the handshake. The constructor has no error, so one that is too long is kept as an empty
/// one, with which the handshake fails in the same way.
fn kept(name: String) -> String {
    if name.len() > NAME_BYTES { String::new() } else { name }
}

/// What an instance needs for it.
pub fn context(outgoing: Arc<Outgoing>) -> WasiTlsCtx {
    WasiTlsCtxBuilder::new().provider(Box::new(Provider(outgoing))).build()
}

/// TLS with the certificates of outgoing HTTP.
struct Provider(Arc<Outgoing>);

/// A handshake, to its result.
type Connected = Pin<Box<dyn Future<Output = Result<Box<dyn TlsStream>, Error>> + Send>>;

impl TlsProvider for Provider {
    fn connect(&self, server_name: String, transport: Box<dyn TlsTransport>) -> Connected {
        let outgoing = self.0.clone();
        let mut reserved = Reserved::default();
        let has_room = reserved.resize(CONNECTION_BYTES);
        Box::pin(async move {
            if !has_room {
                let reason = "the limit of memory leaves no room for another connection";
                return Err(Error::msg(format!("{reason} ({SETTINGS})")));
            }
            let name = ServerName::try_from(server_name).map_err(Error::msg)?;
            let no_tls = || Error::msg("the certificates cannot be read");
            let config = outgoing.tls().await.ok_or_else(no_tls)?;
            let connected = TlsConnector::from(config).connect(name, transport).await;
            let client = connected.map_err(Error::msg)?;
            Ok(Box::new(Stream { client, _reserved: reserved }) as Box<dyn TlsStream>)
        })
    }
}

/// A connection, in memory that is reserved for it.
struct Stream {
    client: Client<Box<dyn TlsTransport>>,
    _reserved: Reserved,
}

impl TlsStream for Stream {}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_read(context, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.client).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_name_that_is_too_long_is_not_kept() {
        let longest = "a".repeat(NAME_BYTES);
        assert_eq!(kept(longest.clone()), longest);
        assert_eq!(kept("a".repeat(NAME_BYTES + 1)), "");
        ServerName::try_from(String::new()).expect_err("an empty one is no name");
    }
}
