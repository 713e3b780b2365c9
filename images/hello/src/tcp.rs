//! Uses a TCP connection through `wasi:sockets`.
//!
//! The bindings are used directly, because std only supports the network if it was built for WASI 0.2.
//! This guest is built for WASI 0.1 if nothing newer is available.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

use wasip2::io::streams::{InputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
    Network,
};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

use crate::{Outcome, say};

/// Size of one read, in bytes.
const CHUNK: u64 = 4096;

/// Connects to `HOST:PORT` and prints what arrives until the other side closes the connection.
pub fn connect(target: &str) -> Outcome {
    let network = instance_network();
    let address = resolve(&network, target)?;
    let family = match address {
        IpSocketAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpSocketAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    };
    let failed = |error: ErrorCode| format!("{target}: {}", error.name());
    let socket = create_tcp_socket(family).map_err(failed)?;
    socket.start_connect(&network, address).map_err(failed)?;
    socket.subscribe().block();
    let (input, _output) = socket.finish_connect().map_err(failed)?;
    print_all(&input).map_err(|error| format!("{target}: {error}"))
}

fn print_all(input: &InputStream) -> Outcome {
    loop {
        match input.blocking_read(CHUNK) {
            Ok(bytes) => say(&String::from_utf8_lossy(&bytes))?,
            Err(StreamError::Closed) => return Ok(()),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

/// Returns a literal address, or the first address of the name.
fn resolve(network: &Network, target: &str) -> Result<IpSocketAddress, String> {
    if let Ok(address) = target.parse::<SocketAddr>() {
        return Ok(socket_address(address));
    }
    let (host, port) = target.rsplit_once(':').ok_or("expected HOST:PORT")?;
    let port: u16 = crate::number(port)?;
    let failed = |error: ErrorCode| format!("{host}: {}", error.name());
    let answers = resolve_addresses(network, host).map_err(failed)?;
    answers.subscribe().block();
    let answer = answers.resolve_next_address().map_err(failed)?;
    let ip = answer.ok_or_else(|| format!("{host}: it has no address"))?;
    Ok(socket_address((to_std(ip), port).into()))
}

fn to_std(ip: IpAddress) -> std::net::IpAddr {
    match ip {
        IpAddress::Ipv4((a, b, c, d)) => [a, b, c, d].into(),
        IpAddress::Ipv6((a, b, c, d, e, f, g, h)) => [a, b, c, d, e, f, g, h].into(),
    }
}

fn socket_address(address: SocketAddr) -> IpSocketAddress {
    match address {
        SocketAddr::V4(address) => IpSocketAddress::Ipv4(v4(address)),
        SocketAddr::V6(address) => IpSocketAddress::Ipv6(v6(address)),
    }
}

fn v4(address: SocketAddrV4) -> Ipv4SocketAddress {
    let [a, b, c, d] = address.ip().octets();
    Ipv4SocketAddress { port: address.port(), address: (a, b, c, d) }
}

fn v6(address: SocketAddrV6) -> Ipv6SocketAddress {
    let [a, b, c, d, e, f, g, h] = address.ip().segments();
    Ipv6SocketAddress {
        port: address.port(),
        flow_info: address.flowinfo(),
        address: (a, b, c, d, e, f, g, h),
        scope_id: address.scope_id(),
    }
}
