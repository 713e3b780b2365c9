//! Prints the first line of what a server answers over TLS, which it speaks through `wasi:tls` over a socket of its own.
//!
//! The arguments are HOST, PORT, and the NAME that the server's certificate must have if it is not HOST. If something fails,
//! stderr says what and the exit code is 1.

mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "hello",
        with: {
            "wasi:io/error@0.2.12": wasip2::io::error,
            "wasi:io/poll@0.2.12": wasip2::io::poll,
            "wasi:io/streams@0.2.12": wasip2::io::streams,
        },
        generate_all,
    });
}

use std::process::ExitCode;

use bindings::wasi::tls::types::{ClientConnection, ClientHandshake};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
    Network,
};
use wasip2::sockets::tcp::TcpSocket;
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

/// Size of one read, in bytes.
const PIECE: u64 = 4096;

/// A connection. The streams come first, because they must be dropped before what they belong to.
struct Tls {
    input: InputStream,
    output: OutputStream,
    connection: ClientConnection,
    _socket: TcpSocket,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let asked = match words.as_slice() {
        [host, port] => ask(host, port, host),
        [host, port, name] => ask(host, port, name),
        _ => Err("give HOST PORT [NAME]".to_owned()),
    };
    match asked {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("hello-tls: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The first line of the answer to a request of HTTP.
fn ask(host: &str, port: &str, name: &str) -> Result<String, String> {
    let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
    let tls = secure(connect(host, port)?, name)?;
    let request = format!("GET / HTTP/1.0\r\nHost: {name}\r\n\r\n");
    tls.output.blocking_write_and_flush(request.as_bytes()).map_err(|error| said(&error))?;
    let mut answer = Vec::new();
    while !answer.contains(&b'\n') {
        match tls.input.blocking_read(PIECE) {
            Ok(bytes) => answer.extend(bytes),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(said(&error)),
        }
    }
    tls.connection.close_output();
    let line = answer.split(|byte| b"\r\n".contains(byte)).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(line).into_owned())
}

fn said(error: &StreamError) -> String {
    match error {
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
        StreamError::Closed => "the connection is closed".to_owned(),
    }
}

type Connected = (TcpSocket, InputStream, OutputStream);

/// A connection to the first address of the host that takes one.
fn connect(host: &str, port: u16) -> Result<Connected, String> {
    let network = instance_network();
    let found = resolve_addresses(&network, host).map_err(|error| format!("{host}: {error:?}"))?;
    let mut last = format!("{host} has no address");
    loop {
        match found.resolve_next_address() {
            Ok(Some(address)) => match connect_to(&network, address, port) {
                Ok(connected) => return Ok(connected),
                Err(error) => last = format!("connect to {address:?}: {error:?}"),
            },
            Ok(None) => return Err(last),
            Err(ErrorCode::WouldBlock) => found.subscribe().block(),
            Err(error) => return Err(format!("{host}: {error:?}")),
        }
    }
}

fn connect_to(network: &Network, address: IpAddress, port: u16) -> Result<Connected, ErrorCode> {
    let (family, address) = match address {
        IpAddress::Ipv4(address) => {
            (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address }))
        }
        IpAddress::Ipv6(address) => (
            IpAddressFamily::Ipv6,
            IpSocketAddress::Ipv6(Ipv6SocketAddress { port, flow_info: 0, address, scope_id: 0 }),
        ),
    };
    let socket = create_tcp_socket(family)?;
    socket.start_connect(network, address)?;
    loop {
        match socket.finish_connect() {
            Ok((input, output)) => return Ok((socket, input, output)),
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            Err(error) => return Err(error),
        }
    }
}

/// TLS over that connection, with a server that must have this name.
fn secure((socket, input, output): Connected, name: &str) -> Result<Tls, String> {
    let handshake = ClientHandshake::new(name, input, output);
    let future = ClientHandshake::finish(handshake);
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok((connection, input, output)))) => {
            Ok(Tls { input, output, connection, _socket: socket })
        }
        Some(Ok(Err(error))) => Err(error.to_debug_string()),
        _ => Err("the handshake has no result".to_owned()),
    }
}
