//! Connections that their clients leave idle.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{PATIENCE, Server, proxy, read, serve, serve_with};
use crate::{end, send};

/// The answer to a further request of a connection that stays open, to its end.
fn answer_on(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").expect("sent");
    rest_of_answer(stream)
}

fn rest_of_answer(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("is set");
    let mut answer = String::new();
    while !answer.ends_with("internal server error\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        answer.push(byte[0].into());
    }
    answer
}

impl Server {
    fn waits_without_serving_threads(&self) {
        let start = Instant::now();
        while self.serving_threads() > 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", self.serving_threads());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

#[test]
fn connections_that_are_idle_keep_no_thread_and_are_served_again() {
    let server = serve(&proxy(""));
    let mut used: Vec<TcpStream> = (0..8).map(|_| server.connect()).collect();
    let mut silent = server.connect();
    for _ in 0..2 {
        for stream in &mut used {
            let answer = answer_on(stream);
            assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        }
        assert!(server.serving_threads() > 0);
        server.waits_without_serving_threads();
    }
    // A head that comes in parts, with a pause as long as it takes to be idle.
    silent.write_all(b"GET / HTTP/1.1\r\nho").expect("sent");
    std::thread::sleep(Duration::from_secs(4));
    silent.write_all(b"st: test\r\n\r\nGET / HT").expect("sent");
    assert!(rest_of_answer(&mut silent).starts_with("HTTP/1.1 500 "));
    std::thread::sleep(Duration::from_secs(4));
    silent.write_all(b"TP/1.1\r\nhost: test\r\n\r\n").expect("sent");
    assert!(rest_of_answer(&mut silent).starts_with("HTTP/1.1 500 "));
    server.waits_without_serving_threads();
    // Idle or just used, none of them holds up the end; what was sent before is answered.
    let (first, others) = used.split_first_mut().expect("there are several");
    answer_on(first);
    send(&server.child, Signal::SIGSTOP);
    for stream in &mut *others {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").expect("sent");
    }
    send(&server.child, Signal::SIGTERM);
    send(&server.child, Signal::SIGCONT);
    let start = Instant::now();
    for stream in others {
        assert!(rest_of_answer(stream).starts_with("HTTP/1.1 500 "));
    }
    assert_eq!(end(server.child).code, Some(0));
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn an_idle_connection_is_closed_when_its_time_is_up_and_gives_its_place_back_when_its_client_goes()
{
    let settings = [("http-idle-timeout", "10s"), ("http-max-connections", "1")];
    let server = serve_with(&proxy(""), &settings);
    for is_used in [false, true] {
        let mut stream = server.connect();
        let start = Instant::now();
        if is_used {
            answer_on(&mut stream);
        }
        server.waits_without_serving_threads();
        assert!(start.elapsed() < Duration::from_secs(10), "it is open still");
        assert_eq!(read(stream), "");
        let open = start.elapsed();
        assert!((9..30).contains(&open.as_secs()), "{open:?}");
    }
    let mut gone = server.connect();
    answer_on(&mut gone);
    server.waits_without_serving_threads();
    drop(gone);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(server.serving_threads(), 0, "its end needs no thread");
    // The server may not have noticed yet that its only permit is free.
    let end = Instant::now() + Duration::from_secs(20);
    let mut answer = server.answer();
    while answer.starts_with("HTTP/1.1 503 ") && Instant::now() < end {
        answer = server.answer();
    }
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    server.end();
}
