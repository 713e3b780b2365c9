//! Clients of a server in a Pod: what they may expect, and that they cannot harm it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tests::network::within;
use tests::wait::{self, SOON};
use tests::{Container, Pod, RunningPod, on_each_containerd};

use crate::pod::PORT;

/// Number of bytes that is far less than a body that streams as long as it is read.
const MEMORY: u64 = 40 << 10;

/// A connection from within the Pod.
pub fn connect(pod: &RunningPod, host: &'static str) -> Result<TcpStream> {
    within(&pod.network, move || {
        wait::until(SOON, "somebody to listen", || Ok(TcpStream::connect((host, PORT)).ok()))
    })
}

/// Sends the text on a new connection.
pub fn send(pod: &RunningPod, text: &str) -> Result<TcpStream> {
    let mut stream = connect(pod, "127.0.0.1")?;
    stream.set_read_timeout(Some(SOON))?;
    stream.write_all(text.as_bytes())?;
    Ok(stream)
}

/// Data that arrives, up to that text.
pub fn read_to(stream: &mut TcpStream, end: &str) -> Result<String> {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with(end) {
        ensure!(stream.read(&mut byte)? == 1, "{text:?} was all");
        text.push(byte[0].into());
    }
    Ok(text)
}

#[test]
fn clients_may_use_what_http_1_1_has() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("clients"))?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        // One connection serves several requests, over IPv6.
        let has_ipv6 = Path::new("/proc/net/if_inet6").exists();
        let mut kept = connect(&pod, if has_ipv6 { "::1" } else { "127.0.0.1" })?;
        for _ in 0..2 {
            kept.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")?;
            let answer = read_to(&mut kept, "hello from wasi:http\n")?;
            assert!(answer.contains("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        // A body that is sent when the server wants it (RFC 9110, section 10.1.1).
        let head = "POST /length HTTP/1.1\r\nhost: test\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n";
        let mut asks = send(&pod, head)?;
        let answer = read_to(&mut asks, "\r\n\r\n")?;
        assert_eq!(answer, "HTTP/1.1 100 Continue\r\n\r\n");
        asks.write_all(b"body")?;
        assert!(read_to(&mut asks, "4\n")?.starts_with("HTTP/1.1 200 OK\r\n"));
        // The length of one that is sent in chunks is not known before its end (RFC 9112, section 7.1).
        let head = "POST /length HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut chunked = send(&pod, head)?;
        for part in ["3\r\none\r\n", "5\r\nthree\r\n", "0\r\n\r\n"] {
            chunked.write_all(part.as_bytes())?;
            thread::sleep(Duration::from_millis(50));
        }
        assert!(read_to(&mut chunked, "8\n")?.starts_with("HTTP/1.1 200 OK\r\n"));
        Ok(())
    })
}

#[test]
fn trailers_go_through_a_guest_of_wasi_03() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("trailers"))?;
        pod.run(&Container::new("server", &node.image("hello-http-p3")?))?;
        let request = "POST /echo HTTP/1.1\r\nhost: test\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\
                       trailer: sum\r\n\r\n3\r\none\r\n0\r\nsum: 7\r\n\r\n";
        let mut stream = send(&pod, request)?;
        let answer = read_to(&mut stream, "sum: 7\r\n")?;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("one"), "{answer}");
        Ok(())
    })
}

#[test]
fn events_arrive_as_they_are_sent_until_the_grace_period_ends() -> Result<()> {
    on_each_containerd(|node| {
        // This applies until the response begins.
        let spec = Pod::new("events").annotation("wasmtime.shim/http-request-timeout", "1s");
        let pod = node.run_pod(&spec)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let mut stream = send(&pod, "GET /events HTTP/1.1\r\nhost: test\r\n\r\n")?;
        let answer = read_to(&mut stream, "data: 30\n\n")?;
        assert!(answer.contains("content-type: text/event-stream\r\n"), "{answer}");
        let stopped = server.stop(Duration::from_secs(2))?;
        assert_eq!(stopped.code, 137, "it had not ended by itself");
        stream.read_to_end(&mut Vec::new())?;
        Ok(())
    })
}

#[test]
fn clients_that_stall_are_let_go_and_keep_nobody_waiting() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("stalled")
            .annotation("wasmtime.shim/http-idle-timeout", "2s")
            .annotation("wasmtime.shim/http-max-requests", "2");
        let pod = node.run_pod(&spec)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let answers = || {
            wait::until(SOON, "an answer", || {
                Ok((pod.http_get(PORT, "/")?.status == 200).then_some(()))
            })
        };
        answers()?;
        let head = |path: &str| {
            format!("POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\nbody")
        };
        // A head or a body that never ends, sent byte by byte.
        let heads =
            (0..20).map(|_| send(&pod, "GET / HTTP/1.1\r\nx")).collect::<Result<Vec<_>>>()?;
        let [body, echoed] = ["/length", "/echo"].map(|path| send(&pod, &head(path)));
        thread::scope(|scope| {
            let dripping = heads.iter().map(|stream| scope.spawn(|| drip(stream)));
            let dripping: Vec<_> = dripping.collect();
            answers()?;
            for one in dripping {
                one.join().map_err(|_| anyhow!("a thread has panicked"))??;
            }
            anyhow::Ok(())
        })?;
        let mut answer = String::new();
        body?.read_to_string(&mut answer)?;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        // The response had begun, and breaks off.
        let mut answer = String::new();
        echoed?.read_to_string(&mut answer)?;
        assert!(answer.contains("body") && !answer.ends_with("0\r\n\r\n"), "{answer}");
        // Responses that never end and are not read, as many as there may be instances.
        let endless = "GET /bytes?count=10000000000 HTTP/1.1\r\nhost: test\r\n\r\n";
        let mut unread = [send(&pod, endless)?, send(&pod, endless)?];
        for stream in &mut unread {
            assert!(read_to(stream, "\r\n\r\n")?.starts_with("HTTP/1.1 200 OK\r\n"));
        }
        assert_eq!(pod.http_get(PORT, "/")?.status, 503, "as many as there may be");
        let memory = server.process()?.memory()?.pss;
        assert!(memory < MEMORY, "{memory} KiB");
        answers()?;
        drop(unread);
        // A client that sends nothing more may still wait for the answer, or have ended.
        let half = send(&pod, "GET /events HTTP/1.1\r\nhost: test\r\n\r\n")?;
        half.shutdown(Shutdown::Write)?;
        drop(half);
        answers()
    })
}

/// Sends a byte now and then, until that fails.
fn drip(mut stream: &TcpStream) -> Result<()> {
    let start = Instant::now();
    while stream.write_all(b"x").is_ok() {
        ensure!(start.elapsed() < wait::patient(SOON), "still there after {:?}", start.elapsed());
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

#[test]
fn a_large_body_goes_through_without_being_kept() -> Result<()> {
    const BYTES: u64 = 512 << 20;
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("large"))?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let request =
            format!("GET /bytes?count={BYTES} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        let mut stream = send(&pod, &request)?;
        let (mut piece, mut read, mut most) = (vec![0; 1 << 20], 0, 0);
        let mut looked_at = Instant::now();
        loop {
            let length = stream.read(&mut piece).context("read the body")?;
            if length == 0 {
                break;
            }
            read += length as u64;
            if looked_at.elapsed() > Duration::from_millis(200) {
                most = most.max(server.process()?.memory()?.pss);
                looked_at = Instant::now();
            }
        }
        assert!(read > BYTES, "{read} bytes, with heads of chunks");
        assert!((1..MEMORY).contains(&most), "{most} KiB");
        Ok(())
    })
}
