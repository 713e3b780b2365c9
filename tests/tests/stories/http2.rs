//! Clients of HTTP/2, which have many requests on one connection, and cannot harm others.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Ping, PingPong, RecvStream};
use http::{Request, Response};
use tests::wait::{self, SOON};
use tests::{Container, Pod, RunningPod, on_each_containerd};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::clients::connect;
use crate::pod::PORT;

/// What the streams of a client may send before it has taken anything, unless it says otherwise (RFC 9113, section 6.9.2).
pub const WINDOW: u32 = 65_535;

/// How long to wait for an answer that comes at once, or does not come because the client must hold the request back.
const AT_ONCE: Duration = Duration::from_secs(3);

/// A connection from within a Pod, which goes on beside what a test does.
pub struct Client {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    pings: PingPong,
}

impl Client {
    /// Whose streams may send so much before it has taken anything.
    pub fn connect(pod: &RunningPod, window: u32) -> Result<Client> {
        let stream = connect(pod, "127.0.0.1")?;
        stream.set_nonblocking(true)?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let (requests, pings) = runtime.block_on(async {
            let stream = TcpStream::from_std(stream)?;
            let (requests, mut connection) =
                Builder::new().initial_window_size(window).handshake(stream).await?;
            let pings = connection.ping_pong().context("pings")?;
            tokio::spawn(connection);
            anyhow::Ok((requests, pings))
        })?;
        Ok(Client { runtime, requests, pings })
    }

    /// The head of the response to `GET` of that path.
    pub fn get(&mut self, path: &str) -> Result<Response<RecvStream>> {
        self.get_with(path, "")
    }

    /// With a header `x` of that value.
    fn get_with(&mut self, path: &str, value: &str) -> Result<Response<RecvStream>> {
        let mut request = Request::get(format!("http://test{path}"));
        if !value.is_empty() {
            request = request.header("x", value);
        }
        let (response, _) = self.requests.send_request(request.body(())?, true)?;
        Ok(self.runtime.block_on(async { timeout(SOON, response).await })??)
    }

    /// The responses to as many of these requests at a time as the server allows.
    fn get_at_once(&mut self, path: &str, count: u32) -> Result<Vec<Response<RecvStream>>> {
        let mut asked = Vec::new();
        for _ in 0..count {
            let request = Request::get(format!("http://test{path}")).body(())?;
            // Once the client knows the server's limit, it does not send more.
            let Ok((response, _)) = self.requests.send_request(request, true) else { break };
            asked.push(response);
        }
        let answered = asked.into_iter().filter_map(|response| {
            let answer = self.runtime.block_on(async { timeout(AT_ONCE, response).await });
            answer.ok()?.ok()
        });
        Ok(answered.collect())
    }

    /// Whole body of a response.
    pub fn read(&self, body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
        let mut read = Vec::new();
        self.runtime.block_on(async {
            while let Some(piece) = body.data().await {
                let piece = piece?;
                body.flow_control().release_capacity(piece.len())?;
                read.extend(piece);
            }
            Ok(read)
        })
    }

    /// Whether the server answers a ping.
    fn ping(&mut self) -> bool {
        let pinged =
            self.runtime.block_on(async { timeout(SOON, self.pings.ping(Ping::opaque())).await });
        matches!(pinged, Ok(Ok(_)))
    }
}

#[test]
fn streams_whose_client_takes_nothing_are_let_go_whatever_it_pings() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("unread")
            .annotation("wasmtime.shim/http-idle-timeout", "2s")
            .annotation("wasmtime.shim/http-access-log", "json")
            .annotation("wasmtime.shim/http-max-requests", "2");
        let pod = node.run_pod(&spec)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let mut clients = [Client::connect(&pod, 0)?, Client::connect(&pod, 0)?];
        let mut bodies = Vec::new();
        for client in &mut clients {
            let response = client.get("/bytes?count=10000000000")?;
            assert_eq!(response.status(), 200);
            bodies.push(response.into_body());
        }
        assert_eq!(pod.http_get(PORT, "/")?.status, 503, "as many as there may be");
        let start = Instant::now();
        wait::until(SOON, "an instance that is free", || {
            assert!(clients.iter_mut().all(Client::ping), "the connections are kept");
            Ok((pod.http_get(PORT, "/args")?.status == 200).then_some(()))
        })?;
        assert!(start.elapsed() < SOON / 2, "{:?}", start.elapsed());
        for (client, body) in clients.iter().zip(&mut bodies) {
            let error = client.read(body).expect_err("it is reset");
            assert!(error.is_reset() && error.is_remote(), "{error:?}");
        }
        let entry = crate::observing::entry(&server, "/bytes?count=10000000000")?;
        assert_eq!(entry["cut_by"], "client", "{entry}");
        // The connections can be used further.
        let [client, _] = &mut clients;
        assert_eq!(client.get("/")?.status(), 200);
        Ok(())
    })
}

#[test]
fn a_stream_that_is_read_slowly_goes_on() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("slow").annotation("wasmtime.shim/http-idle-timeout", "1s");
        let pod = node.run_pod(&spec)?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let mut client = Client::connect(&pod, 16 << 10)?;
        let mut body = client.get("/bytes?count=10000000000")?.into_body();
        let (start, mut read) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(4) {
            let piece = client.runtime.block_on(async { timeout(SOON, body.data()).await })?;
            let piece = piece.context("it has ended")??;
            read += piece.len();
            body.flow_control().release_capacity(piece.len())?;
            thread::sleep(Duration::from_millis(300));
        }
        assert!(read > 32 << 10, "{read} bytes");
        Ok(())
    })
}

#[test]
fn two_connections_cannot_have_all_instances() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("greedy").annotation("wasmtime.shim/http-max-requests", "8");
        let pod = node.run_pod(&spec)?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let mut clients = [Client::connect(&pod, WINDOW)?, Client::connect(&pod, WINDOW)?];
        let mut served = Vec::new();
        for client in &mut clients {
            let responses = client.get_at_once("/events", 20)?;
            served.push(responses.into_iter().filter(|it| it.status() == 200).collect());
        }
        let served: Vec<Vec<_>> = served;
        let counts: Vec<usize> = served.iter().map(Vec::len).collect();
        assert_eq!(counts[0], 4, "half of them: {counts:?}");
        assert!((1..4).contains(&counts[1]), "{counts:?}");
        for _ in 0..3 {
            assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        }
        // Streams that are given back can be used by others.
        drop(served);
        let [_, other] = &mut clients;
        wait::until(SOON, "the other to have its half", || {
            let responses = other.get_at_once("/", 4)?;
            Ok((responses.iter().all(|it| it.status() == 200)).then_some(()))
        })
    })
}

#[test]
fn a_connection_without_requests_is_closed_whatever_it_pings() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("silent").annotation("wasmtime.shim/http-idle-timeout", "1s");
        let pod = node.run_pod(&spec)?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let mut client = Client::connect(&pod, WINDOW)?;
        // It is kept as long as there is a request, however long that is.
        let mut events = client.get("/events")?.into_body();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            ensure!(client.ping(), "closed beneath a request");
            let event = client.runtime.block_on(async { timeout(SOON, events.data()).await })?;
            let event = event.ok_or_else(|| anyhow!("the events have ended"))??;
            events.flow_control().release_capacity(event.len())?;
        }
        drop(events);
        wait::until(SOON, "the connection to be closed", || Ok((!client.ping()).then_some(())))
    })
}

#[test]
fn a_head_that_is_too_large_is_told_so_and_one_that_is_just_not_is_served() -> Result<()> {
    /// What `GET /` of `test` has with an empty header `x` (RFC 9113, section 6.5.2).
    const OTHERS: usize = (7 + 3) + (7 + 4) + (10 + 4) + (5 + 1) + 1 + 5 * 32;
    on_each_containerd(|node| {
        let spec = Pod::new("heads").annotation("wasmtime.shim/http-max-header", "8Ki");
        let pod = node.run_pod(&spec)?;
        pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        let mut client = Client::connect(&pod, WINDOW)?;
        let mut status = |size: usize| -> Result<u16> {
            Ok(client.get_with("/", &"x".repeat(size - OTHERS))?.status().as_u16())
        };
        assert_eq!(status(8 << 10)?, 200);
        for size in [(8 << 10) + 1, 12 << 10, 20 << 10, 40 << 10] {
            assert_eq!(status(size)?, 431, "{size} bytes");
        }
        assert_eq!(status(8 << 10)?, 200, "on the same connection");
        Ok(())
    })
}
