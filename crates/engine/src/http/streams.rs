//! The streams of a connection of HTTP/2: how long a client may leave one without progress, and whether there are any.
//!
//! hyper sends a response as far as its client lets it, and waits otherwise, which a window of zero makes last for ever: of
//! HTTP/1.1 the socket would not take more, here it takes other streams and pings. hyper has each stream sent by a future of its
//! own, which it hands to an executor. This one has an eye on them. A stream is its client's to go on with after its
//! response's body was asked for more, and gave it ([`asked`]); dropping the future resets the stream.

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
    /// What the stream that is being sent waits for.
    static WAITS: Cell<Waits>;
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// The next part of the response, or its head.
    #[default]
    ForGuest,
    /// To be allowed to send that part.
    ForClient,
    /// The same, of another part than before.
    ForClientAnew,
}

/// Notes that a stream's body was asked for its next part, and whether it had it.
pub fn asked(has_part: bool) {
    let waits = if has_part { Waits::ForClientAnew } else { Waits::ForGuest };
    // What a thread serves otherwise is no stream.
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

/// One that is open, until it is dropped.
struct Stream(Arc<Mutex<Open>>);

impl Streams {
    /// Each of which its client may leave for so long.
    pub fn new(patience: Duration) -> Streams {
        Streams { patience, open: Arc::new(Mutex::new(Open { count: 0, since: Instant::now() })) }
    }

    /// Since when there is none.
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

/// Sends a stream to its end, or until its client has left it for too long.
async fn send(stream: impl Future<Output = ()>, patience: Duration) {
    let mut stream = pin!(stream);
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|context| {
        if stream.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let waits = WAITS.with(|it| match it.get() {
            Waits::ForClientAnew => it.replace(Waits::ForClient),
            waits => waits,
        });
        match waits {
            Waits::ForGuest => return Poll::Pending,
            Waits::ForClient => {}
            Waits::ForClientAnew => {
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
