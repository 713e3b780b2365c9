#!/usr/bin/env bash
# The crate hyper, asked to shut a connection down gracefully, closes it although a request waits in the socket, if it has read
# nothing of it yet.
#
# Version:  crates hyper 1.12.0 (http1, server), hyper-util 0.1, tokio 1.
# Input:    a server's connection to which the client has written a whole request. In one case the connection is asked to shut
#           down gracefully before it is polled for the first time, in the other after it has begun to answer.
# Guess:    "graceful" means that what the client has sent is answered, with `connection: close`, in both cases, since the
#           request was there first.
# Seen:     the first client gets no byte, only the end of the connection; the second one gets its answer. So a server that is
#           stopped, and has accepted connections that it has not yet read from, drops their requests.
#
# Fails if both are answered. Needs Cargo; takes a minute.
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
mkdir "$directory/src"

cat >"$directory/Cargo.toml" <<'TOML'
[package]
name = "graceful"
version = "0.1.0"
edition = "2021"

[dependencies]
http-body-util = "0.1"
hyper = { version = "=1.12.0", features = ["http1", "server"] }
hyper-util = { version = "0.1", features = ["tokio"] }
tokio = { version = "1", features = ["macros", "rt", "io-util", "time"] }
TOML

cat >"$directory/src/main.rs" <<'RUST'
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than it takes to read the request, shorter than it takes to answer it.
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_millis(500);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for (when, wait) in [("before it was read", Duration::ZERO), ("while it is answered", SHORT)] {
        let answer = tokio::time::timeout(Duration::from_secs(10), ask(wait)).await;
        let first = answer.expect("the connection ends").lines().next().unwrap_or("no answer").to_owned();
        println!("{when}: {first}");
    }
}

/// What a client reads whose request is in the socket, if the server is asked to end after `wait`.
async fn ask(wait: Duration) -> String {
    let (mut client, server) = tokio::io::duplex(1 << 16);
    client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
    let answer = service_fn(|_: Request<Incoming>| async {
        tokio::time::sleep(LONG).await;
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"here"))))
    });
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(server), answer));
    if !wait.is_zero() {
        let _ = tokio::time::timeout(wait, connection.as_mut()).await;
    }
    connection.as_mut().graceful_shutdown();
    let mut read = String::new();
    let (_, _) = tokio::join!(connection, client.read_to_string(&mut read));
    read
}
RUST

cargo run --quiet --manifest-path "$directory/Cargo.toml" >"$directory/seen"
cat "$directory/seen"
diff "$directory/seen" - <<'SEEN'
before it was read: no answer
while it is answered: HTTP/1.1 200 OK
SEEN
