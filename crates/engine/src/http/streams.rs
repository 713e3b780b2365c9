//! Executor for the streams of one HTTP/2 connection. It resets those that their client does not read.
//!
//! With HTTP/1.1, a client that does not read makes socket writes stall, which `wire` bounds. An HTTP/2 client can
//! close the flow control window of one stream while the connection carries other streams and pings, and hyper then
//! waits for ever. hyper sends each stream in a future of its own, which it passes to this executor. If the stream's
//! body provided the next part ([`asked`]) and the future is still pending, then the stream waits for its client.
//! Dropping the future resets the stream.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::rt::Executor;
use tokio::task_local;
use tokio::time::{Sleep, sleep};

task_local! {
    /// What the stream that is being polled waits for.
    static WAITS: Cell<WaitsFor>;
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum WaitsFor {
    /// The next part of the response, or its head.
    #[default]
    Guest,
    /// Flow control capacity to send that part.
    Client,
    /// The same for a new part: the stream has made progress.
    ClientAnew,
}

/// Notes that the body of a stream was polled, and whether it provided a part.
pub fn asked(has_part: bool) {
    let waits = if has_part { WaitsFor::ClientAnew } else { WaitsFor::Guest };
    // Outside of a stream there is nothing to note.
    let _ = WAITS.try_with(|it| it.set(waits));
}

/// Runs the streams of one connection.
#[derive(Clone)]
pub struct Streams {
    patience: Duration,
    open: Arc<Mutex<Open>>,
}

struct Open {
    count: usize,
    since: Instant,
}

/// An open stream, until it is dropped.
struct Stream(Arc<Mutex<Open>>);

impl Streams {
    /// Sets how long a client may leave a stream without progress.
    pub fn new(patience: Duration) -> Streams {
        Streams { patience, open: Arc::new(Mutex::new(Open { count: 0, since: Instant::now() })) }
    }

    /// Returns since when the connection has had no stream, or `None` while it has one.
    pub fn none_since(&self) -> Option<Instant> {
        let open = lock(&self.open);
        (open.count == 0).then_some(open.since)
    }
}

impl Stream {
    fn open(open: &Arc<Mutex<Open>>) -> Stream {
        lock(open).count += 1;
        Stream(open.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut open = lock(&self.0);
        open.count -= 1;
        open.since = Instant::now();
    }
}

fn lock(open: &Mutex<Open>) -> MutexGuard<'_, Open> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let (patience, open) = (self.patience, Stream::open(&self.open));
        let sent = async move {
            send(stream, patience).await;
            drop(open);
        };
        tokio::spawn(WAITS.scope(Cell::default(), sent));
    }
}

/// Polls a stream to its end, or until its client has made no progress for too long.
async fn send(stream: impl Future<Output = ()>, patience: Duration) {
    let mut stream = pin!(stream);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let waits = WAITS.with(|it| match it.get() {
            WaitsFor::ClientAnew => it.replace(WaitsFor::Client),
            waits => waits,
        });
        match waits {
            WaitsFor::Guest => return Poll::Pending,
            WaitsFor::Client => {}
            WaitsFor::ClientAnew => {
                if let Some(timer) = &mut timer {
                    timer.as_mut().reset(tokio::time::Instant::now() + patience);
                }
            }
        }
        timer.get_or_insert_with(|| Box::pin(sleep(patience))).as_mut().poll(context)
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::runtime::Builder;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_millis(50);

    fn is_let_go(stream: impl Future<Output = ()>) -> bool {
        let tokio = Builder::new_current_thread().enable_time().build().expect("a runtime");
        let sent = WAITS.scope(Cell::default(), send(stream, PATIENCE));
        tokio.block_on(async { timeout(PATIENCE * 10, sent).await.is_ok() })
    }

    #[test]
    fn a_stream_that_its_client_leaves_is_let_go_and_one_that_waits_for_its_guest_is_not() {
        assert!(!is_let_go(pending()));
        assert!(!is_let_go(async {
            asked(true);
            yield_now().await;
            asked(false);
            pending().await
        }));
        assert!(is_let_go(async {
            asked(true);
            pending().await
        }));
    }

    #[test]
    fn a_stream_that_goes_on_slowly_is_not_let_go() {
        assert!(!is_let_go(async {
            loop {
                asked(true);
                sleep(PATIENCE / 3).await;
            }
        }));
    }
}
