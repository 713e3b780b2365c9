#!/usr/bin/env bash
# The crate h2 refuses a header list of exactly the size that it advertises as the largest.
#
# Version:  crates h2 0.4.20, http 1, tokio 1.
# Input:    a server with max_header_list_size(L); a client that sends requests whose header list, counted as RFC 9113 section
#           10.5.1 and 6.5.2 say (name, value and 32 bytes for each field), has L - 1, L and L + 1 bytes.
# Guess:    SETTINGS_MAX_HEADER_LIST_SIZE is a maximum (RFC 9113, section 6.5.2), so L - 1 and L are served, L + 1 is not.
# Seen:     L - 1 is served; L is refused like L + 1: the comparison is "at least", not "more than".
#
# Fails if a list of L bytes is served. Needs Cargo; takes a minute.
set -euo pipefail

directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
mkdir "$directory/src"

cat >"$directory/Cargo.toml" <<'TOML'
[package]
name = "header-list"
version = "0.1.0"
edition = "2021"

[dependencies]
h2 = "=0.4.20"
http = "1"
tokio = { version = "1", features = ["macros", "rt", "io-util", "time"] }
TOML

cat >"$directory/src/main.rs" <<'RUST'
use std::time::Duration;

/// Largest header list that the server advertises, in bytes.
const LIMIT: usize = 1000;

/// What a field costs besides its name and value.
const FIELD: usize = 32;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    for size in [LIMIT - 1, LIMIT, LIMIT + 1] {
        let outcome = tokio::time::timeout(Duration::from_secs(10), ask(size)).await;
        println!("{size}: {}", if outcome == Ok(true) { "served" } else { "refused" });
    }
}

/// Whether a request with a header list of that many bytes is answered with 200.
async fn ask(size: usize) -> bool {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let server = async move {
        let mut builder = h2::server::Builder::new();
        builder.max_header_list_size(LIMIT as u32);
        let mut connection = builder.handshake::<_, &'static [u8]>(theirs).await.unwrap();
        while let Some(Ok((_, mut answer))) = connection.accept().await {
            let _ = answer.send_response(http::Response::new(()), true);
        }
    };
    let client = async move {
        let (mut sender, connection) = h2::client::handshake(ours).await.unwrap();
        let request = async move {
            let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
            let pseudo: usize = fields.iter().map(|(name, value)| name.len() + value.len() + FIELD).sum();
            let padding = "p".repeat(size - pseudo - "x-padding".len() - FIELD);
            let request = http::Request::get("http://a/").header("x-padding", padding).body(()).unwrap();
            let (response, _) = sender.send_request(request, true).unwrap();
            response.await.is_ok_and(|response| response.status() == 200)
        };
        tokio::select! {
            served = request => served,
            _ = connection => false,
        }
    };
    tokio::select! {
        served = client => served,
        () = server => false,
    }
}
RUST

cargo run --quiet --manifest-path "$directory/Cargo.toml" >"$directory/seen"
cat "$directory/seen"
diff "$directory/seen" - <<'SEEN'
999: served
1000: refused
1001: refused
SEEN
