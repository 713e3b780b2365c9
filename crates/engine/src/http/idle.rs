//! Connection between two requests. It needs no serving thread.
//!
//! Proxies keep connections open that they do not use. While a serving thread served such a connection, that thread and
//! its event loop could not end. So an idle connection is taken apart until only its socket is left. The process's
//! first thread waits for the next byte, and then passes the connection to the thread that has the least to do.

use std::io;
use std::net::TcpStream as Socket;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::report::log;

/// A connection without a request.
pub struct Idle {
    /// Its socket, which belongs to no event loop.
    pub stream: Socket,
    /// The protocol, as far as it is known.
    pub speaks: Speaks,
    /// The time at which it is closed if the client sends nothing before.
    pub until: Instant,
}

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    /// The client has sent nothing yet.
    Unknown,
    /// The client has received responses of HTTP/1.1 or 1.0.
    Http1,
}

impl Idle {
    /// A connection that was just accepted.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub fn new(stream: TcpStream, idle_time: Duration) -> io::Result<Idle> {
        // From here on, another event loop receives its events.
        let stream = stream.into_std()?;
        Ok(Idle { stream, speaks: Speaks::Unknown, until: Instant::now() + idle_time })
    }

    /// Waits for the client's next bytes, and leaves them unread. None if the connection is over: the client closed it, it was
    /// idle for too long, or the server ends.
    pub async fn next(self, ending: &mut watch::Receiver<bool>) -> Option<Idle> {
        let Idle { stream, speaks, until } = self;
        let stream = watched(stream)?;
        let mut byte = [0];
        let has_bytes = tokio::select! {
            peeked = timeout_at(until, stream.peek(&mut byte)) => Some(matches!(peeked, Ok(Ok(1)))),
            _ = ending.changed() => None,
        };
        let stream = stream.into_std().ok()?;
        // The kernel must be asked, because the event loop may not have heard of the bytes yet.
        let has_bytes = has_bytes.unwrap_or_else(|| matches!(stream.peek(&mut byte), Ok(1)));
        has_bytes.then_some(Idle { stream, speaks, until })
    }
}

/// Adds a socket to the event loop of this thread. If epoll_ctl(2) fails, logs that and returns `None`.
pub fn watched(stream: Socket) -> Option<TcpStream> {
    TcpStream::from_std(stream).inspect_err(not_served).ok()
}

/// Logs why a connection is not served.
pub fn not_served(error: &io::Error) {
    log(&format!("warning: serve a connection: {error}"));
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;
    use crate::http::event_loop;

    /// Returns the two ends of a connection. The server's end may be idle for this long.
    fn connection(idle_time: Duration) -> (Socket, Idle) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Socket::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (client, Idle { stream, speaks: Speaks::Http1, until: Instant::now() + idle_time })
    }

    fn next(idle: Idle, ending: &watch::Receiver<bool>) -> Option<Idle> {
        let mut ending = ending.clone();
        event_loop::runtime().unwrap().block_on(async move { idle.next(&mut ending).await })
    }

    #[test]
    fn a_connection_goes_on_with_its_next_byte_and_ends_with_its_client_or_its_time() {
        let (_end, ending) = watch::channel(false);
        let (mut client, idle) = connection(Duration::from_secs(60));
        client.write_all(b"G").unwrap();
        let idle = next(idle, &ending).expect("the client has sent a byte");
        assert!(next(idle, &ending).is_some(), "the byte is left unread");

        let (client, idle) = connection(Duration::from_secs(60));
        drop(client);
        assert!(next(idle, &ending).is_none());

        let (_client, idle) = connection(Duration::from_millis(50));
        assert!(next(idle, &ending).is_none());
    }

    #[test]
    fn a_connection_of_a_server_that_ends_goes_on_if_its_client_has_sent_something() {
        let (end, ending) = watch::channel(false);
        let (_silent, idle) = connection(Duration::from_secs(60));
        let (mut client, has_bytes) = connection(Duration::from_secs(60));
        client.write_all(b"G").unwrap();
        end.send_replace(true);
        assert!(next(idle, &ending).is_none());
        for _ in 0..20 {
            let idle = Idle { stream: has_bytes.stream.try_clone().unwrap(), ..has_bytes };
            assert!(next(idle, &ending).is_some());
        }
    }
}
