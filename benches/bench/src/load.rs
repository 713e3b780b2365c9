//! Sends requests to a server at a fixed pace from within a Pod's network, while `wrk` sends as many as it can.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use tests::network::within;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{Instant as Due, sleep_until};

/// The pace of requests.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Requests per second of all connections together.
    pub rate: f64,
    /// Connections, each with one request at a time.
    pub connections: u32,
    /// Duration.
    pub time: Duration,
    /// Processor of the client.
    pub processor: usize,
}

/// Returns the milliseconds until each request was answered, through a port of that network. If a request must wait for
/// the one before it, its time begins when it was due.
pub fn paced(network: &Path, port: u16, pace: Pace) -> Result<Vec<f64>> {
    within(network, move || {
        let mut processors = CpuSet::new();
        processors.set(pace.processor)?;
        sched_setaffinity(Pid::from_raw(0), &processors)?;
        let tokio = Builder::new_current_thread().enable_all().build()?;
        tokio.block_on(async {
            let mut connections = JoinSet::new();
            for number in 0..pace.connections {
                connections.spawn(connection(port, pace, number));
            }
            let all = connections.join_all().await.into_iter().collect::<Result<Vec<_>>>()?;
            Ok(all.concat())
        })
    })
}

async fn connection(port: u16, pace: Pace, number: u32) -> Result<Vec<f64>> {
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let between = Duration::from_secs_f64(f64::from(pace.connections) / pace.rate);
    let begin = Due::now();
    let mut due = begin + between.mul_f64(f64::from(number) / f64::from(pace.connections));
    let mut times = Vec::new();
    while due < begin + pace.time {
        let is_late = due <= Due::now();
        sleep_until(due).await;
        // The lateness of a timer is not the server's fault.
        let since = if is_late { due } else { Due::now() };
        let request = Request::get("/").header("host", "localhost").body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        ensure!(response.status().is_success(), "{}", response.status());
        response.into_body().collect().await?;
        times.push(since.elapsed().as_secs_f64() * 1e3);
        due += between;
    }
    drop(sender);
    driver.await??;
    Ok(times)
}

/// Opens connections, sends one request on each, and keeps them open as long as they are held.
pub fn open(network: &Path, port: u16, count: usize) -> Result<Vec<TcpStream>> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    within(network, move || (0..count).map(|_| ask_and_stay(port)).collect())
}

fn ask_and_stay(port: u16) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let (mut answer, mut part) = (Vec::new(), [0; 1024]);
    let begin = Instant::now();
    while !answer.ends_with(b"0\r\n\r\n") && !answer.ends_with(b"hello from wasi:http\n") {
        let length = stream.read(&mut part)?;
        ensure!(length > 0 && begin.elapsed() < Duration::from_secs(10), "no whole answer");
        answer.extend_from_slice(&part[..length]);
    }
    ensure!(answer.starts_with(b"HTTP/1.1 200"), "not a success");
    Ok(stream)
}
