//! Guests that serve HTTP until a signal ends them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::{AS_IT_IS, End, Start, end, send, start};

mod bounds;
mod idle;

/// More than a guest needs to start on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The setting of a server's address.
const LISTEN: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";

/// A proxy of `wasi:http` 0.2 whose handler is `body`.
fn proxy(body: &str) -> String {
    format!(
        r#"(component
            (import "wasi:http/types@0.2.0" (instance $types
                (export "incoming-request" (type (sub resource)))
                (export "response-outparam" (type (sub resource)))))
            (alias export $types "incoming-request" (type $request))
            (alias export $types "response-outparam" (type $response))
            (core module $m (func $broken (export "handle") (param i32 i32) {body}))
            (core instance $i (instantiate $m))
            (func $handle (param "request" (own $request)) (param "response-out" (own $response))
                (canon lift (core func $i "handle")))
            (instance $server (export "handle" (func $handle)))
            (export "wasi:http/incoming-handler@0.2.0" (instance $server)))"#
    )
}

/// A server's process and its address.
struct Server {
    child: Child,
    address: SocketAddr,
}

fn serve(guest: &str) -> Server {
    serve_with(guest, &[])
}

/// With annotations, without `wasmtime.shim/`.
fn serve_with(guest: &str, annotations: &[(&str, &str)]) -> Server {
    let address = free_address();
    let env = [format!("{LISTEN}={address}")];
    Server { child: start(guest, &Start { env: &env, annotations, ..AS_IT_IS }), address }
}

/// An address without a listener.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port")
}

impl Server {
    fn connect(&self) -> TcpStream {
        let start = Instant::now();
        loop {
            match TcpStream::connect(self.address) {
                Ok(stream) => return stream,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn send(&self, text: &str) -> TcpStream {
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).expect("sent");
        stream
    }

    fn request(&self) -> TcpStream {
        self.send("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n")
    }

    fn answer(&self) -> String {
        read(self.request())
    }

    /// Number of its threads that serve (proc(5)).
    fn serving_threads(&self) -> usize {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let threads = threads.expect("its threads").map(|thread| thread.expect("a thread").path());
        let name = |thread: &std::path::PathBuf| std::fs::read_to_string(thread.join("comm"));
        threads.filter(|thread| name(thread).is_ok_and(|name| name.trim() == "http")).count()
    }

    /// Ends it, which it does in good order.
    fn end(self) -> End {
        send(&self.child, Signal::SIGTERM);
        let end = end(self.child);
        assert_eq!(end.code, Some(0), "{end:?}");
        end
    }
}

/// An answer, to the end of the connection.
fn read(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.set_read_timeout(Some(PATIENCE)).expect("is set");
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_request_that_traps_is_answered_500_and_told_once_and_the_server_goes_on() {
    let server = serve(&proxy("unreachable"));
    for _ in 0..2 {
        let answer = server.answer();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        assert!(!answer.contains("unreachable"), "{answer}");
    }
    send(&server.child, Signal::SIGTERM);
    let end = end(server.child);
    assert_eq!(end.code, Some(0), "{end:?}");
    assert_eq!(end.stderr.matches("error: ").count(), 2, "{end:?}");
    assert_eq!(end.stderr.matches("`unreachable`").count(), 2, "{end:?}");
    assert!(end.stderr.contains("broken"), "{end:?}");
}

#[test]
fn a_request_without_a_response_is_answered_500_and_told() {
    let server = serve(&proxy(""));
    let answer = server.answer();
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    send(&server.child, Signal::SIGINT);
    let end = end(server.child);
    assert_eq!((end.code, end.stderr.matches("error: ").count()), (Some(0), 1), "{end:?}");
}

#[test]
fn a_request_without_a_response_does_not_wait_for_the_end_of_its_instance() {
    let metrics = free_address();
    let (reuse, metrics_listen) = (("http-instances", "reuse=1000"), metrics.to_string());
    let server = serve_with(&proxy(""), &[reuse, ("metrics-listen", &metrics_listen)]);
    let answer = server.answer();
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    let mut reader = TcpStream::connect(metrics).expect("a port for metrics");
    reader.write_all(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n").expect("sent");
    let metrics = read(reader);
    assert!(metrics.contains("\nwasmtime_instances 1\n"), "it waits for another: {metrics}");
    let end = server.end();
    assert_eq!(end.stderr.matches("error: ").count(), 1, "{end:?}");
}

/// A proxy that takes a while, and gives no response in the end.
fn slow_proxy(nanoseconds: u64) -> String {
    let imports = r#"
            (import "wasi:io/poll@0.2.0" (instance $poll
                (export "pollable" (type $pollable (sub resource)))
                (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
            (alias export $poll "pollable" (type $pollable))
            (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
                (alias outer 1 $pollable (type $p))
                (export "pollable" (type $pollable (eq $p)))
                (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
            (core func $after (canon lower (func $clock "subscribe-duration")))
            (core func $block (canon lower (func $poll "[method]pollable.block")))
            (core module $m
                (import "host" "after" (func $after (param i64) (result i32)))
                (import "host" "block" (func $block (param i32)))"#;
    let instance = r#"(instantiate $m (with "host" (instance
                (export "after" (func $after)) (export "block" (func $block)))))"#;
    proxy(&format!("(call $block (call $after (i64.const {nanoseconds})))"))
        .replace("(core module $m", imports)
        .replace("(instantiate $m)", instance)
}

#[test]
fn a_request_in_flight_is_finished_after_a_signal_and_nothing_new_is_accepted() {
    let server = serve(&slow_proxy(1_500_000_000));
    let mut request = server.request();
    std::thread::sleep(Duration::from_millis(500));
    send(&server.child, Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(200));
    assert!(TcpStream::connect(server.address).is_err());
    let mut answer = String::new();
    request.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert_eq!(end(server.child).code, Some(0));
}

#[test]
fn a_second_signal_ends_a_server_whose_guests_never_come_back() {
    let server = serve(&proxy("(loop $forever br $forever)"));
    // As many as occupy every thread that serves.
    let requests: Vec<TcpStream> = (0..8).map(|_| server.request()).collect();
    std::thread::sleep(Duration::from_millis(500));
    send(&server.child, Signal::SIGTERM);
    std::thread::sleep(Duration::from_millis(500));
    send(&server.child, Signal::SIGTERM);
    assert_eq!(end(server.child).code, Some(143));
    drop(requests);
}

#[test]
fn a_port_that_is_taken_is_named_with_the_setting_that_changes_it() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let env = [format!("{LISTEN}={address}")];
    let end = end(start(&proxy(""), &Start { env: &env, ..AS_IT_IS }));
    assert_eq!(end.code, Some(126), "{end:?}");
    assert!(end.stderr.contains(&address) && end.stderr.contains(LISTEN), "{end:?}");
    assert!(end.stderr.contains("in use"), "{end:?}");
}

/// A guest that never comes back.
const LOOP: &str = "(loop $forever br $forever)";

#[test]
fn a_guest_that_does_not_answer_in_time_is_answered_for_and_ended() {
    let server = serve_with(&proxy(LOOP), &[("http-request-timeout", "300ms")]);
    let requests: Vec<TcpStream> = (0..8).map(|_| server.request()).collect();
    for request in requests {
        let answer = read(request);
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    }
    // The loops have ended, too: the server would wait for them.
    let end = server.end();
    assert_eq!(end.stderr.matches("GET /: no response within 300ms").count(), 8, "{end:?}");
}

#[test]
fn a_client_that_says_nothing_keeps_no_server_from_ending() {
    let server = serve(&proxy(""));
    let silent = server.connect();
    // As HTTP/2 begins, but not to its end.
    let begun = [server.send("PR"), server.send("PRI * HTTP/2.0\r\n")];
    std::thread::sleep(Duration::from_millis(200));
    let start = Instant::now();
    server.end();
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    drop((silent, begun));
}

#[test]
fn requests_that_wait_to_be_accepted_when_the_server_is_to_end_are_answered() {
    let server = serve(&proxy(""));
    assert!(server.answer().starts_with("HTTP/1.1 500 "));
    send(&server.child, Signal::SIGSTOP);
    let waiting: Vec<TcpStream> = (0..8).map(|_| server.request()).collect();
    send(&server.child, Signal::SIGTERM);
    send(&server.child, Signal::SIGCONT);
    for request in waiting {
        let answer = read(request);
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    }
    assert_eq!(end(server.child).code, Some(0));
}

#[test]
fn http_2_is_known_by_its_preface_however_it_arrives() {
    let server = serve(&proxy(""));
    let mut stream = server.connect();
    // RFC 9113, section 3.4: a preface, and settings, which may be empty.
    for part in [&b"PR"[..], b"I * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0]] {
        stream.write_all(part).expect("sent");
        std::thread::sleep(Duration::from_millis(100));
    }
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).expect("a frame");
    assert_eq!(frame[3], 4, "settings first: {frame:?}");
    drop(stream);
    server.end();
}

/// A connection of HTTP/2 (RFC 9113, section 3.4): a preface, and settings, which may be empty.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// `GET /` of `test` (RFC 9113, section 6.2; RFC 7541, appendix A), but for the stream's number.
const HEADERS: &[u8] = b"\0\0\x09\x01\x05\0\0\0";
const FIELDS: &[u8] = b"\x82\x86\x84\x41\x04test";

#[test]
fn the_requests_of_one_connection_of_http_2_are_served_by_all_threads() {
    let server = serve(&slow_proxy(1_000_000_000));
    let mut stream = server.connect();
    stream.write_all(PREFACE).expect("sent");
    stream.read_exact(&mut [0; 9]).expect("a frame");
    let threads = std::thread::available_parallelism().expect("processors").get().min(4);
    assert_eq!(
        server.serving_threads(),
        1,
        "the connection's own, and no further one without need"
    );
    for number in (1..32).step_by(2) {
        stream.write_all(&[HEADERS, &[number], FIELDS].concat()).expect("sent");
    }
    let start = Instant::now();
    // A thread starts with the first request that it is given.
    while server.serving_threads() < threads {
        assert!(start.elapsed() < PATIENCE, "{}", server.serving_threads());
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(stream);
    server.end();
}

#[test]
fn each_request_has_its_own_fuel() {
    let burn = "(local $left i32) (local.set $left (i32.const 10000))
        (loop $again
            (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))";
    let stderr_of = |requests: u32, fuel: &str| {
        let address = free_address();
        let env = [format!("{LISTEN}={address}")];
        let annotations = &[("http-instances", "reuse=50"), ("fuel", fuel)];
        let how = Start { env: &env, annotations, ..AS_IT_IS };
        let server = Server { child: start(&proxy(burn), &how), address };
        for _ in 0..requests {
            // It sets no response.
            assert!(server.answer().starts_with("HTTP/1.1 500 "));
        }
        server.end().stderr
    };
    // It is enough for one request, and not for two.
    let enough = stderr_of(3, "90000");
    assert!(!enough.contains("fuel"), "{enough}");
    let too_little = stderr_of(2, "30000");
    assert_eq!(too_little.matches("the guest has used up its fuel").count(), 2, "{too_little}");
}
