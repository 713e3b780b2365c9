//! Whatever a client sends, a server that runs answers or closes the connection, and the next client is served.
//!
//! The server is in this process, so that the fuzzer sees which of its code an input reaches. Its guest is the component
//! that the environment names.
#![no_main]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a target reports"
)]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engine::{Compiled, Given, Layer, Runtime};
use grants::CodeSettings;
use libfuzzer_sys::fuzz_target;
use nix::unistd::alarm;
use plan::Plan;

/// The path of a component of `wasi:http/incoming-handler` that answers `/` with 200.
const GUEST: &str = "FUZZ_HTTP_GUEST";

/// How long an answer may take on a machine with other work.
const PATIENCE: Duration = Duration::from_secs(20);

/// After so many inputs an ordinary client is served.
const ORDINARY_EVERY: u64 = 32;

fn server() -> SocketAddr {
    static SERVER: OnceLock<SocketAddr> = OnceLock::new();
    *SERVER.get_or_init(|| {
        let guest = std::env::var_os(GUEST).expect("FUZZ_HTTP_GUEST names a component");
        let guest = std::fs::read(guest).expect("the guest");
        // libFuzzer checks the time of an input by SIGALRM, which would end the server. `receive` checks it instead.
        alarm::cancel();
        let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let address = free.expect("a port");
        thread::spawn(move || serve(guest, address));
        let since = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(since.elapsed() < PATIENCE, "the server does not listen");
            thread::sleep(Duration::from_millis(20));
        }
        address
    })
}

/// Serves as long as the process lives.
fn serve(guest: Vec<u8>, address: SocketAddr) {
    let runtime = Runtime::new().expect("a runtime");
    let layers = [Layer { name: "guest".to_owned(), wasm: guest }];
    let compiled = runtime.compile(&layers, None, &CodeSettings::default());
    let Compiled { world, code, .. } = compiled.expect("compiles");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&code).expect("written");
    let env = [format!("WASMTIME_HTTP_PROXY_SOCKET_ADDR={address}")];
    let plan = Plan::new(world, None, vec!["guest".into()], &env, "/".into()).expect("a plan");
    let page_map = File::open("/proc/self/pagemap").ok();
    runtime.load(plan, Given { code: file, profiles: None, roots: None, page_map }).run(|| ());
}

/// A client that sends this; the server may have closed the connection before the end, which is an answer.
fn send(sent: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(server()).expect("connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("is set");
    let _ = stream.write_all(sent);
    stream
}

/// What the server sends until it closes the connection.
fn receive(mut stream: TcpStream) -> Vec<u8> {
    let (mut answer, since) = (Vec::new(), Instant::now());
    let mut part = [0; 4096];
    while since.elapsed() < PATIENCE {
        match stream.read(&mut part) {
            Ok(0) => return answer,
            Ok(count) => answer.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return answer,
            Err(error) => panic!("after {:?} no end of the response: {error}", since.elapsed()),
        }
    }
    panic!("after {:?} the connection is still open", since.elapsed())
}

fuzz_target!(|bytes: &[u8]| {
    static INPUTS: AtomicU64 = AtomicU64::new(0);
    let stream = send(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let answer = receive(stream);
    assert!(!answer.starts_with(b"HTTP/1.1 500"), "{}", String::from_utf8_lossy(&answer));
    if INPUTS.fetch_add(1, Ordering::Relaxed).is_multiple_of(ORDINARY_EVERY) {
        let answer = receive(send(b"GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"));
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
});
