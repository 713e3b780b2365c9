//! A connection: which HTTP it speaks, how long it may be silent, and how it ends.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_io_timeout::TimeoutWriter;

use super::service::respond;
use super::settings::HttpSettings;
use super::threads::Threads;

/// How long a client may be silent when the server was told to end.
const LAST_SILENCE: Duration = Duration::from_secs(1);

/// A client that sends its first bytes one by one is looked at again.
const GLANCE: Duration = Duration::from_millis(50);

/// The headers of a request. More of them are answered with 431.
const HEADERS: usize = 100;

/// Requests at a time of one connection of HTTP/2.
const STREAMS: u32 = 100;

/// How a connection of HTTP/2 begins (RFC 9113, section 3.4); nothing of HTTP/1.1 does. hyper waits for all of it, as long
/// as that takes, and does not end meanwhile.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that a client has made.
pub struct Connection {
    /// The threads that serve.
    pub threads: Arc<Threads>,
    /// The number of its own.
    pub thread: usize,
    /// Whether the server was told to end.
    pub ending: watch::Receiver<bool>,
}

impl Connection {
    /// Serves it until either side ends it.
    pub async fn serve(mut self, stream: TcpStream) {
        // Responses are written whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        // A client that says nothing, or is gone.
        let Some(is_http2) = self.first_bytes(&stream).await else { return };
        let was_ending = *self.ending.borrow_and_update();
        let Connection { threads, thread, mut ending } = self;
        let service = threads.service(thread).clone();
        let HttpSettings { idle_time, head, .. } = service.settings;
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(if was_ending { LAST_SILENCE.min(idle_time) } else { idle_time })
            .max_headers(HEADERS)
            .max_buf_size(head as usize)
            .keep_alive(!was_ending);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(idle_time)
            .max_header_list_size(head)
            .max_concurrent_streams(STREAMS);
        let builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
        let client = service.observer.as_ref().and_then(|_| stream.peer_addr().ok());
        // A connection that is idle need not have room for a request's way.
        let respond = |request| -> Pin<Box<dyn Future<Output = _> + Send>> {
            match is_http2 {
                true => {
                    let threads = threads.clone();
                    Box::pin(async move { threads.respond(thread, client, request).await })
                }
                false => Box::pin(respond(service.clone(), client, request)),
            }
        };
        // Of HTTP/1.1 a client that does not take its response keeps no instance; of HTTP/2 it can.
        let mut stream = TimeoutWriter::new(stream);
        stream.set_timeout(Some(idle_time));
        let stream = TokioIo::new(Box::pin(stream));
        let mut connection = pin!(builder.serve_connection(stream, service_fn(respond)));
        // An error is the client's: it went away or spoke something else. The connection first: what has been sent
        // is read before it is told to end.
        let _ = tokio::select! {
            biased;
            ended = connection.as_mut() => ended,
            _ = ending.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
    }

    /// Whether they are those of HTTP/2; none where there are none in time.
    async fn first_bytes(&mut self, stream: &TcpStream) -> Option<bool> {
        let mut first = pin!(is_http2(stream));
        let silence = self.threads.service(self.thread).settings.idle_time;
        let is_ending = *self.ending.borrow_and_update();
        if !is_ending {
            tokio::select! {
                found = timeout(silence, first.as_mut()) => return found.ok()?.ok(),
                // It may have been sent, and not be noticed yet.
                _ = self.ending.changed() => {}
            }
        }
        timeout(LAST_SILENCE.min(silence), first).await.ok()?.ok()
    }
}

async fn is_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    loop {
        match stream.peek(&mut first).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count if !PREFACE.starts_with(&first[..count]) => return Ok(false),
            count if count == PREFACE.len() => return Ok(true),
            _ => sleep(GLANCE).await,
        }
    }
}
