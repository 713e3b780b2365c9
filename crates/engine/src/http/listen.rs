//! The listening socket.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use plan::http::{METRICS, PREFIX};
use plan::{HttpSettings, LISTEN};
use tokio::net::{TcpListener, TcpSocket};
use wasmtime::error::Context as _;

/// Connections that may wait to be accepted. A scraper of metrics makes one.
const METRICS_BACKLOG: u32 = 8;

/// Listens at the configured address, or else at every address. Without IPv6, these are the addresses of IPv4.
///
/// # Errors
/// Those of bind(2) and listen(2). The error contains the address and the setting for another one.
pub fn listen(settings: &HttpSettings) -> wasmtime::Result<TcpListener> {
    let bind = |address| {
        bind(address, settings.backlog).with_context(|| {
            format!("listen on {address} for HTTP (env {LISTEN} or annotation {PREFIX}listen sets another address and port)")
        })
    };
    match settings.listen {
        Some(address) => bind(address),
        None => match bind((Ipv6Addr::UNSPECIFIED, settings.port).into()) {
            Err(_) if !has_ipv6() => bind((Ipv4Addr::UNSPECIFIED, settings.port).into()),
            other => other,
        },
    }
}

/// Listens for scrapers of metrics.
///
/// # Errors
/// As for [`listen`].
pub fn for_metrics(address: SocketAddr) -> wasmtime::Result<TcpListener> {
    bind(address, METRICS_BACKLOG).with_context(|| {
        format!(
            "listen on {address} for metrics (annotation {METRICS} sets another address and port)"
        )
    })
}

fn bind(address: SocketAddr, backlog: u32) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    if address.is_ipv6() {
        // `[::]` accepts IPv4 as well, whatever the node's net.ipv6.bindv6only is.
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

/// Returns whether this network namespace has IPv6, which is so if any port of its loopback address can be bound.
fn has_ipv6() -> bool {
    std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}
