//! Looks up names, and uses sockets of TCP and UDP.

use std::net::SocketAddrV4;

use wasip3::cli::stdout;
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket, UdpSocket,
};

use crate::{Outcome, output};

/// Prints the addresses of a name.
pub async fn look_up(name: &str) -> Outcome {
    let found = resolve_addresses(name.to_owned()).await;
    let addresses = found.map_err(|error| format!("{name}: {error:?}"))?;
    output::write(stdout::write_via_stream, format!("{addresses:?}\n")).await
}

/// Connects to an address of IPv4 and a port.
pub async fn connect(address: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{address}: {error:?}");
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(failed)?;
    socket.connect(parse(address)?).await.map_err(failed)?;
    output::write(stdout::write_via_stream, "connected\n".to_owned()).await
}

/// Listens at an address of IPv4 and a port.
pub async fn listen(address: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{address}: {error:?}");
    let socket = TcpSocket::create(IpAddressFamily::Ipv4).map_err(failed)?;
    socket.bind(parse(address)?).map_err(failed)?;
    let _clients = socket.listen().map_err(failed)?;
    output::write(stdout::write_via_stream, "listening\n".to_owned()).await
}

/// Sends a datagram to an address of IPv4 and a port.
pub async fn send(address: &str) -> Outcome {
    let failed = |error: ErrorCode| format!("{address}: {error:?}");
    let socket = UdpSocket::create(IpAddressFamily::Ipv4).map_err(failed)?;
    socket.send(b"hello".to_vec(), Some(parse(address)?)).await.map_err(failed)?;
    output::write(stdout::write_via_stream, "sent\n".to_owned()).await
}

fn parse(address: &str) -> Result<IpSocketAddress, String> {
    let parsed: SocketAddrV4 = address.parse().map_err(|_| "expected ADDRESS:PORT")?;
    let [a, b, c, d] = parsed.ip().octets();
    let address = (a, b, c, d);
    Ok(IpSocketAddress::Ipv4(Ipv4SocketAddress { port: parsed.port(), address }))
}
