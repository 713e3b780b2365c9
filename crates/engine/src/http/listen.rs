//! The listening socket.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt};
use plan::http::{METRICS, PREFIX};
use plan::{HttpSettings, LISTEN};
use tokio::net::{TcpListener, TcpSocket};
use wasmtime::error::Context as _;

/// A scraper of metrics has one connection.
const METRICS_BACKLOG: u32 = 8;

/// At the address that is set; else at every address, of IPv4 alone where there is no IPv6.
///
/// # Errors
/// Of bind(2) and listen(2), with the address and what sets another.
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

/// The same of metrics.
///
/// # Errors
/// Of bind(2) and listen(2), with the address and what sets another.
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
