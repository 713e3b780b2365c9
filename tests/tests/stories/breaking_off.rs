//! Responses that their guests do not finish, and bodies that break off before their end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use tests::network::within;
use tests::wait::{self, SOON};
use tests::{Container, Pod, RunningPod, on_each_containerd};

use crate::clients::send;
use crate::http2::{Client, WINDOW};
use crate::observing::entry;
use crate::pod::PORT;

const ROWS: &str = "row\nrow\nrow\n";

/// The end of a body that is sent in chunks (RFC 9112, section 7.1).
const LAST_CHUNK: &str = "\r\n0\r\n\r\n";

/// Whole answer to `GET` of that path, on a new connection.
fn get(pod: &RunningPod, path: &str) -> Result<String> {
    let mut stream =
        send(pod, &format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Number of rows in an answer, in any number of chunks.
fn rows(answer: &str) -> usize {
    answer.matches("row\n").count()
}

#[test]
fn a_response_that_its_guest_does_not_finish_is_not_taken_for_one() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("unfinished")
            .annotation("wasmtime.shim/http-access-log", "json")
            .annotation("wasmtime.shim/metrics-listen", "0.0.0.0:9100");
        let pod = node.run_pod(&spec)?;
        let server = Container::new("server", &node.image("hello-http")?).memory_limit(64 << 20);
        let server = pod.run(&server)?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let ends = ["trap", "exit", "memory", "forget", "drop"];
        for end in ends {
            let path = format!("/rows?then={end}");
            let answer = get(&pod, &path)?;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{end}: {answer}");
            assert_eq!(rows(&answer), 3, "{end}: what was written arrives: {answer}");
            assert!(!answer.ends_with(LAST_CHUNK), "{end}: {answer}");
            let entry = entry(&server, &path)?;
            assert_eq!((&entry["status"], &entry["cut_by"]), (&200.into(), &"guest".into()));
            assert_eq!(entry["bytes"], ROWS.len(), "{entry}");
        }
        let answer = get(&pod, "/rows?then=short")?;
        assert!(answer.contains("content-length: 100\r\n") && answer.ends_with(ROWS), "{answer}");
        assert_eq!(entry(&server, "/rows?then=short")?["cut_by"], "guest");
        // A finished response arrives, even if the guest traps afterwards.
        for end in ["finish", "finish-and-trap"] {
            let path = format!("/rows?then={end}");
            let answer = get(&pod, &path)?;
            assert!(rows(&answer) == 3 && answer.ends_with(LAST_CHUNK), "{end}: {answer}");
            let entry = entry(&server, &path)?;
            assert!(entry.get("cut_by").is_none(), "{entry}");
        }
        server.wait_for_error("unreachable")?;
        let metrics = pod.http_get(9100, "/metrics")?.body;
        let cut = format!("wasmtime_http_responses_cut_total{{by=\"guest\"}} {}\n", ends.len() + 1);
        assert!(metrics.contains(&cut), "{metrics}");
        Ok(())
    })
}

#[test]
fn an_unfinished_response_is_a_stream_that_is_reset() -> Result<()> {
    on_each_containerd(|node| {
        for image in ["hello-http", "hello-http-p3"] {
            let spec = Pod::new(&format!("reset-{image}"))
                .annotation("wasmtime.shim/http-instances", "per-request");
            let pod = node.run_pod(&spec)?;
            pod.run(&Container::new("server", &node.image(image)?))?;
            assert_eq!(pod.http_get(PORT, "/")?.status, 200);
            let mut client = Client::connect(&pod, WINDOW)?;
            for end in ["trap", "forget"] {
                let response = client.get(&format!("/rows?then={end}"))?;
                assert_eq!(response.status(), 200, "{image}: {end}");
                let error = client.read(&mut response.into_body()).expect_err("is reset");
                assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{image}: {end}");
            }
            let response = client.get("/rows?then=finish")?;
            let body = client.read(&mut response.into_body())?;
            assert_eq!(body, ROWS.as_bytes(), "{image}");
        }
        Ok(())
    })
}

#[test]
fn all_responses_of_an_instance_break_off_when_one_of_its_requests_traps() -> Result<()> {
    on_each_containerd(|node| {
        // There is one instance, whichever thread serves a connection.
        let spec = Pod::new("together")
            .annotation("wasmtime.shim/http-access-log", "json")
            .annotation("wasmtime.shim/http-max-requests", "1");
        let pod = node.run_pod(&spec)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http-p3")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        for end in ["trap", "error"] {
            let mut waiting = Vec::new();
            for _ in 0..3 {
                let request =
                    "GET /rows?then=wait HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";
                let mut stream = send(&pod, request)?;
                let mut head = [0; 15];
                stream.read_exact(&mut head)?;
                assert_eq!(&head, b"HTTP/1.1 200 OK");
                waiting.push(stream);
            }
            let path = format!("/rows?then={end}");
            let answer = get(&pod, &path)?;
            assert!(rows(&answer) == 3 && !answer.ends_with(LAST_CHUNK), "{end}: {answer}");
            assert_eq!(entry(&server, &path)?["cut_by"], "guest");
            let answer = get(&pod, "/rows?then=finish")?;
            assert!(rows(&answer) == 3 && answer.ends_with(LAST_CHUNK), "{end}: {answer}");
            // An error only affects its own response.
            if end == "error" {
                break;
            }
            for mut stream in waiting {
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                assert!(rows(&answer) == 3 && !answer.ends_with(LAST_CHUNK), "{answer}");
            }
            assert_eq!(entry(&server, "/rows?then=wait")?["cut_by"], "guest");
        }
        Ok(())
    })
}

#[test]
fn a_body_that_is_passed_on_outlives_the_instance() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("passed").annotation("wasmtime.shim/http-instances", "per-request");
        let pod = node.run_pod(&spec)?;
        pod.run(&Container::new("server", &node.image("hello-http-p3")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let mut stream = send(
            &pod,
            "POST /pass HTTP/1.1\r\nhost: test\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n",
        )?;
        for chunk in ["4\r\nrow\n\r\n", "4\r\nrow\n\r\n", "0\r\n\r\n"] {
            thread::sleep(Duration::from_millis(300));
            stream.write_all(chunk.as_bytes())?;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        assert!(rows(&answer) == 2 && answer.ends_with(LAST_CHUNK), "{answer}");
        Ok(())
    })
}

#[test]
fn a_client_of_http_1_0_sees_that_a_response_is_not_whole() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("old"))?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let get = |end: &str| -> Result<std::io::Result<usize>> {
            let mut stream = send(&pod, &format!("GET /rows?then={end} HTTP/1.0\r\n\r\n"))?;
            Ok(stream.read_to_end(&mut Vec::new()))
        };
        assert!(get("finish")?.is_ok());
        let error = get("trap")?.expect_err("it is reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        Ok(())
    })
}

#[test]
fn a_guest_whose_clients_are_gone_keeps_no_instance() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("left")
            .annotation("wasmtime.shim/http-request-timeout", "1s")
            .annotation("wasmtime.shim/http-instances", "per-request")
            .annotation("wasmtime.shim/http-max-requests", "1");
        let pod = node.run_pod(&spec)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http-p3")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let mut waiting = send(&pod, "GET /rows?then=wait HTTP/1.1\r\nhost: test\r\n\r\n")?;
        waiting.read_exact(&mut [0; 15])?;
        // It may take any time while its client is connected.
        thread::sleep(Duration::from_secs(4));
        assert_eq!(pod.http_get(PORT, "/")?.status, 503, "{:?}", server.logs()?);
        drop(waiting);
        wait::until(SOON, "an instance that is free", || {
            Ok((pod.http_get(PORT, "/")?.status == 200).then_some(()))
        })?;
        server.wait_for_error("guest timed out")
    })
}

/// Ends a connection with a reset.
fn reset(stream: TcpStream) -> Result<()> {
    setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    drop(stream);
    Ok(())
}

#[test]
fn a_guest_is_told_why_the_body_of_its_request_broke_off() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("uploads")
            .annotation("wasmtime.shim/http-idle-timeout", "1s")
            .annotation("wasmtime.shim/http-max-body", "64Ki");
        let pod = node.run_pod(&spec)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let chunked = |chunks: &str| {
            send(
                &pod,
                &format!(
                    "POST /length HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"
                ),
            )
        };
        let told =
            |code: &str| server.wait_for_error(&format!("the body broke off: ErrorCode::{code}"));
        let gone = chunked("3\r\none\r\n")?;
        thread::sleep(Duration::from_millis(200));
        reset(gone)?;
        told("ConnectionTerminated")?;
        let _malformed = chunked("3\r\none\r\nno length\r\n")?;
        told("HttpProtocolError")?;
        let _silent = chunked("3\r\none\r\n")?;
        told("ConnectionReadTimeout")?;
        let large = format!("{:x}\r\n{}\r\n", 65 << 10, "x".repeat(65 << 10));
        let _large = chunked(&large)?;
        told("HttpRequestBodySize")
    })
}

/// End of a connection.
type End = fn(TcpStream) -> Result<()>;

/// Answers one request after the other with these bytes, and then as `end` does.
fn answering(pod: &RunningPod, answers: Vec<(&'static str, End)>) -> Result<()> {
    let listener = within(&pod.network, || Ok(TcpListener::bind("127.0.0.1:8081")?))?;
    thread::spawn(move || -> Result<()> {
        for (answer, end) in answers {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(SOON))?;
            let _ = stream.read(&mut [0; 4096])?;
            stream.write_all(answer.as_bytes())?;
            thread::sleep(Duration::from_millis(200));
            end(stream)?;
        }
        Ok(())
    });
    Ok(())
}

#[test]
fn a_guest_is_told_why_the_body_of_a_response_broke_off() -> Result<()> {
    const LONGER: &str = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf";
    const MALFORMED: &str =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\nno length\r\n";
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("downloads"))?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let close = |stream: TcpStream| {
            drop(stream);
            Ok(())
        };
        answering(&pod, vec![(LONGER, close), (LONGER, reset), (MALFORMED, close)])?;
        for code in ["HttpResponseIncomplete", "ConnectionTerminated", "HttpProtocolError"] {
            let answer = pod.http_get(PORT, "/fetch?url=http://127.0.0.1:8081/")?;
            let expected = format!("ErrorCode::{code}");
            assert_eq!((answer.status, answer.body), (502, expected));
        }
        Ok(())
    })
}

#[test]
fn a_guest_knows_for_whom_its_request_is() -> Result<()> {
    on_each_containerd(|node| {
        for image in ["hello-http", "hello-http-p3"] {
            let pod = node.run_pod(&Pod::new(&format!("hosts-{image}")))?;
            let server = pod.run(&Container::new("server", &node.image(image)?))?;
            assert_eq!(pod.http_get(PORT, "/")?.status, 200);
            let said = |head: &str| -> Result<String> {
                let mut stream = send(&pod, &format!("GET {head}\r\n\r\n"))?;
                stream.set_read_timeout(Some(SOON))?;
                let mut answer = String::new();
                stream.read_to_string(&mut answer)?;
                let lines: Vec<&str> = answer.lines().collect();
                let said = lines.iter().find(|line| line.contains("://"));
                Ok(said.or(lines.first()).context("no answer")?.to_string())
            };
            let close = "connection: close";
            for (head, expected) in [
                ("/scheme HTTP/1.1\r\nhost: shop:80", "http://shop:80"),
                ("http://shop/scheme HTTP/1.1\r\nhost: other", "http://shop"),
                ("https://shop/scheme HTTP/1.1\r\nhost: other", "https://shop"),
                ("/scheme HTTP/1.0", "http://127.0.0.1:8080"),
                ("/scheme HTTP/1.0\r\nhost: shop", "http://shop"),
                ("/scheme HTTP/1.1", "HTTP/1.1 400 Bad Request"),
                ("https://shop/scheme HTTP/1.1", "HTTP/1.1 400 Bad Request"),
                ("/scheme HTTP/1.1\r\nhost: a\r\nhost: a", "HTTP/1.1 400 Bad Request"),
                ("/scheme HTTP/1.1\r\nhost: a/b", "HTTP/1.1 400 Bad Request"),
            ] {
                assert_eq!(said(&format!("{head}\r\n{close}"))?, expected, "{image}: {head}");
            }
            let mut client = Client::connect(&pod, WINDOW)?;
            let response = client.get("/scheme")?;
            let body = client.read(&mut response.into_body())?;
            assert_eq!(body, b"http://test\n", "{image}");
            let stderr = server.logs()?.stderr;
            assert!(!stderr.contains("error"), "{stderr}");
        }
        Ok(())
    })
}
