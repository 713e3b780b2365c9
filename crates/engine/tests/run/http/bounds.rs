//! What a client may ask for at most: sizes, requests and connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{
    HEADERS, LISTEN, PREFACE, Server, free_address, proxy, read, serve, serve_with, slow_proxy,
};
use crate::{AS_IT_IS, Start, start};

/// The first of a connection's answer, which is there soon.
fn status(mut stream: &TcpStream) -> String {
    let mut status = [0; 12];
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("is set");
    stream.read_exact(&mut status).expect("an answer");
    String::from_utf8_lossy(&status).into_owned()
}

#[test]
fn a_head_or_a_body_that_is_too_large_is_refused() {
    let server = serve_with(&proxy("unreachable"), &[("http-max-body", "10")]);
    let post = "POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 11\r\n\r\nhello world";
    let mut answer = [0; 12];
    server.send(post).read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
    let long = format!("GET / HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n", "x".repeat(256 << 10));
    let many = format!("GET / HTTP/1.1\r\nhost: test\r\n{}\r\n", "x: y\r\n".repeat(200));
    for head in [many, long] {
        let mut stream = server.connect();
        // The server may have answered, and closed, before it was sent all.
        let _ = stream.write_all(head.as_bytes());
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 431");
    }
    assert!(server.end().stderr.is_empty(), "no guest was asked");
    let server = serve_with(&proxy("unreachable"), &[("http-max-header", "8Ki")]);
    let head = format!("GET / HTTP/1.1\r\nhost: test\r\nx: {}\r\n\r\n", "x".repeat(12 << 10));
    server.send(&head).read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 431");
    server.end();
}

#[test]
fn more_requests_than_may_be_are_told_to_come_again() {
    let server = serve_with(&slow_proxy(2_000_000_000), &[("http-max-requests", "1")]);
    let first = server.request();
    std::thread::sleep(Duration::from_millis(500));
    let answer = server.answer();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    assert!(read(first).starts_with("HTTP/1.1 500 "));
    server.end();
}

#[test]
fn a_storm_of_requests_makes_no_more_instances_than_the_granted_memory_holds() {
    // 10 MiB each.
    let guest = slow_proxy(3_000_000_000).replace("(func $broken", "(memory 160) (func $broken");
    let server = serve_with(&guest, &[("max-memory", "32Mi")]);
    let requests: Vec<TcpStream> = (0..8).map(|_| server.request()).collect();
    let answers: Vec<String> = requests.into_iter().map(read).collect();
    let are = |status: &str| answers.iter().filter(|it| it.starts_with(status)).count();
    assert_eq!((are("HTTP/1.1 500 "), are("HTTP/1.1 503 ")), (3, 5), "{answers:?}");
    // There is room again.
    let first = server.request();
    assert_eq!(status(&first), "HTTP/1.1 500");
    let end = server.end();
    assert_eq!(end.stderr.matches("32Mi are for all its instances").count(), 1, "{end:?}");
    assert_eq!(end.stderr.matches("error: ").count(), 4, "{end:?}");
}

#[test]
fn an_instance_that_begins_with_more_than_is_granted_is_an_error_and_not_busy() {
    let guest = proxy("").replace("(func $broken", "(memory 160) (func $broken");
    let server = serve_with(&guest, &[("max-memory", "8Mi")]);
    let answer = server.answer();
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(server.end().stderr.contains("error: "));
}

#[test]
fn what_is_said_of_failed_requests_counts_in_the_rate_of_lines() {
    let server = serve_with(&proxy("unreachable"), &[("log-rate", "5")]);
    for _ in 0..10 {
        assert!(server.answer().starts_with("HTTP/1.1 500 "));
    }
    let end = server.end();
    assert!(end.stderr.contains("error: wasm trap"), "{end:?}");
    assert!(end.stderr.contains(" dropped: the guest may write 5 a second"), "{end:?}");
    // The last of them are shown at the end.
    let begun = end.stderr.find("the last lines on stderr were:\n").expect("a report");
    assert!(end.stderr[begun..].contains("wasm backtrace"), "{end:?}");
}

#[test]
fn more_connections_than_may_be_are_told_to_come_again() {
    let server = serve_with(&proxy(""), &[("http-max-connections", "1")]);
    let silent = server.connect();
    std::thread::sleep(Duration::from_millis(200));
    let answer = read(server.connect());
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1"), "{answer}");
    drop(silent);
    std::thread::sleep(Duration::from_millis(200));
    assert!(server.answer().starts_with("HTTP/1.1 500 "));
    server.end();
}

#[test]
fn what_is_half_sent_and_given_up_frees_its_place_at_once() {
    let server = serve_with(&proxy(""), &[("http-max-connections", "1")]);
    assert!(server.answer().starts_with("HTTP/1.1 500 "));
    let settings = [PREFACE, HEADERS].concat();
    for half in [
        &b"P"[..],
        b"PRI * HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0",
        &settings,
        b"GET / HT",
        b"GET / HTTP/1.1\r\nhost: te",
        b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nhalf",
        b"POST / HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n3\r\non",
    ] {
        let mut stream = server.connect();
        stream.write_all(half).expect("sent");
        std::thread::sleep(Duration::from_millis(100));
        drop(stream);
        let start = Instant::now();
        while !status(&server.request()).ends_with("500") {
            let half = String::from_utf8_lossy(half);
            assert!(start.elapsed() < Duration::from_secs(5), "{half:?} keeps its place");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    server.end();
}

#[test]
fn there_are_fewer_connections_than_descriptors_and_who_comes_then_is_told_so() {
    let address = free_address();
    let env = [format!("{LISTEN}={address}")];
    let how = Start { env: &env, files: Some(160), ..AS_IT_IS };
    let server = Server { child: start(&proxy(""), &how), address };
    assert!(server.answer().starts_with("HTTP/1.1 500 "));
    let mut silent: Vec<TcpStream> = (0..40).map(|_| server.connect()).collect();
    std::thread::sleep(Duration::from_millis(200));
    for _ in 0..20 {
        if status(&server.request()).ends_with("503") {
            break;
        }
        // The place of the request before was not free yet for one of them.
        silent.push(server.connect());
        std::thread::sleep(Duration::from_millis(200));
    }
    for _ in 0..200 {
        assert_eq!(status(&server.request()), "HTTP/1.1 503");
    }
    drop(silent);
    std::thread::sleep(Duration::from_millis(200));
    assert!(server.answer().starts_with("HTTP/1.1 500 "));
    let end = server.end();
    assert!(end.stderr.contains("at most 40 connections at a time and not 1024"), "{end:?}");
    assert!(end.stderr.contains("RLIMIT_NOFILE"), "{end:?}");
    assert!(!end.stderr.contains("Too many open files"), "{end:?}");
}

#[test]
fn a_head_is_as_large_as_it_may_be_and_no_larger_however_it_arrives() {
    let server = serve(&proxy(""));
    let limit = 64 << 10;
    let head = |size: usize| {
        let (start, end) = ("GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx: ", "\r\n\r\n");
        format!("{start}{}{end}", "x".repeat(size - start.len() - end.len()))
    };
    let sizes = [
        (limit - 1, "500"),
        (limit, "500"),
        (limit + 1, "431"),
        (100 << 10, "431"),
        (1 << 20, "431"),
    ];
    for (size, expected) in sizes {
        for pieces in [1, 5] {
            let (head, mut stream) = (head(size), server.connect());
            for piece in head.as_bytes().chunks(size.div_ceil(pieces)) {
                // It may have been answered before all of it was sent.
                let _ = stream.write_all(piece);
                if pieces > 1 {
                    std::thread::sleep(Duration::from_millis(30));
                }
            }
            let status = status(&stream);
            assert!(status.ends_with(expected), "{size} bytes in {pieces}: {status}");
        }
    }
    server.end();
}
