//! Event loop with a thread of its own, which exists as long as something uses it.
//!
//! The thread starts with the first use and ends some time after the last one, so that a server without clients has no
//! thread except its first one.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use scopeguard::{ScopeGuard, guard};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::host_calls;

/// Time without use after which the thread ends.
const LINGER: Duration = Duration::from_secs(2);

/// Number of event loops that have a thread.
#[derive(Default)]
pub struct Live {
    count: AtomicUsize,
    none_left: Notify,
}

impl Live {
    /// Waits until the last thread has ended.
    pub async fn none_left(&self) {
        self.none_left.notified().await;
    }
}

/// Event loop, which may have no thread.
pub struct EventLoop {
    state: Mutex<State>,
    unused: Notify,
    live: Arc<Live>,
}

#[derive(Default)]
struct State {
    /// None while there is no thread.
    handle: Option<Handle>,
    uses: usize,
    /// Number of uses so far.
    entered: u64,
}

/// Use of an event loop: while there is one, the thread stays.
pub struct Use {
    event_loop: Arc<EventLoop>,
    handle: Handle,
}

impl EventLoop {
    /// An event loop without a thread.
    pub fn new(live: &Arc<Live>) -> Arc<EventLoop> {
        Arc::new(EventLoop { state: Mutex::default(), unused: Notify::new(), live: live.clone() })
    }

    /// Uses the event loop, and starts its thread if there is none.
    ///
    /// # Errors
    /// Those of epoll_create(2), pthread_create(3) and the like.
    pub fn enter(self: &Arc<EventLoop>) -> io::Result<Use> {
        let mut state = self.state();
        let handle = match &state.handle {
            Some(handle) => handle.clone(),
            None => state.handle.insert(self.start()?).clone(),
        };
        Ok(self.used(&mut state, handle))
    }

    /// Uses the event loop if it has a thread.
    pub fn enter_live(self: &Arc<EventLoop>) -> Option<Use> {
        let mut state = self.state();
        let handle = state.handle.clone()?;
        Some(self.used(&mut state, handle))
    }

    fn used(self: &Arc<EventLoop>, state: &mut State, handle: Handle) -> Use {
        state.uses += 1;
        state.entered += 1;
        Use { event_loop: self.clone(), handle }
    }

    fn start(self: &Arc<EventLoop>) -> io::Result<Handle> {
        let runtime = unwaited(runtime()?);
        let handle = runtime.handle().clone();
        let event_loop = self.clone();
        let run = move || {
            let noted = host_calls::note();
            runtime.block_on(event_loop.until_unused());
            drop(noted);
            // A file operation whose guest is gone may still block one of its threads.
            drop(runtime);
            if event_loop.live.count.fetch_sub(1, Ordering::SeqCst) == 1 {
                event_loop.live.none_left.notify_one();
            }
        };
        self.live.count.fetch_add(1, Ordering::SeqCst);
        let started = thread::Builder::new().name("http".into()).spawn(run);
        if started.is_err() {
            self.live.count.fetch_sub(1, Ordering::SeqCst);
        }
        started.map(|_| handle)
    }

    async fn until_unused(&self) {
        loop {
            self.unused.notified().await;
            while !self.is_used() {
                let entered = self.state().entered;
                sleep(LINGER).await;
                if self.end_unless_used_since(entered) {
                    return;
                }
            }
        }
    }

    fn is_used(&self) -> bool {
        self.state().uses > 0
    }

    /// Leaves the event loop without a thread, so that the next use starts one. A task that no use stands for, such as an
    /// outgoing connection that waits for its next request, keeps the thread.
    fn end_unless_used_since(&self, entered: u64) -> bool {
        let mut state = self.state();
        let has_tasks = || Handle::current().metrics().num_alive_tasks() > 0;
        if state.uses > 0 || state.entered != entered || has_tasks() {
            return false;
        }
        state.handle = None;
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic cannot leave the state half changed, because no code that panics runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Use {
    /// Handle of the event loop, for tasks that hold this use or end before it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let mut state = self.event_loop.state();
        state.uses -= 1;
        if state.uses == 0 {
            self.event_loop.unused.notify_one();
        }
    }
}

/// Runs a future on another event loop, for as long as the returned future lives. Returns `None` if that event loop dropped it.
pub async fn elsewhere<T: Send + 'static>(
    event_loop: &Use,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let mut there = JoinSet::new();
    there.spawn_on(work, event_loop.handle());
    there.join_next().await?.ok()
}

/// Drops a runtime without waiting for its threads. In a task of another runtime, for instance if its own thread cannot be
/// started, waiting would panic.
fn unwaited(runtime: Runtime) -> ScopeGuard<Runtime, fn(Runtime)> {
    guard(runtime, Runtime::shutdown_background)
}

/// Event loop for one thread.
///
/// # Errors
/// Those of epoll_create(2) and the like.
pub fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Instant;

    use super::*;

    fn is_live(event_loop: &Arc<EventLoop>) -> bool {
        event_loop.state().handle.is_some()
    }

    fn ends(event_loop: &Arc<EventLoop>) -> bool {
        let end = Instant::now() + 5 * LINGER;
        while is_live(event_loop) && Instant::now() < end {
            thread::sleep(Duration::from_millis(20));
        }
        !is_live(event_loop)
    }

    #[test]
    fn the_thread_ends_after_the_last_use_and_starts_with_the_next() {
        let live = Arc::new(Live::default());
        let event_loop = EventLoop::new(&live);
        assert!(event_loop.enter_live().is_none());
        for _ in 0..2 {
            let (finished, done) = mpsc::channel();
            let (one, other) = (event_loop.enter().unwrap(), event_loop.enter_live().unwrap());
            one.handle().spawn(async move { finished.send(()) });
            drop(one);
            done.recv_timeout(5 * LINGER).unwrap();
            thread::sleep(2 * LINGER);
            assert!(is_live(&event_loop), "it is used still");
            drop(other);
            assert!(ends(&event_loop));
            let quiet = runtime().unwrap();
            quiet.block_on(async {
                tokio::time::timeout(5 * LINGER, live.none_left()).await.expect("notified");
            });
        }
    }

    #[test]
    fn a_use_that_comes_while_the_thread_ends_is_in_time_or_starts_another() {
        let decide = |event_loop: &EventLoop, entered| {
            runtime().unwrap().block_on(async { event_loop.end_unless_used_since(entered) })
        };
        let entered = |event_loop: &EventLoop| event_loop.state().entered;
        let event_loop = EventLoop::new(&Arc::default());
        drop(event_loop.enter().unwrap());
        let before = entered(&event_loop);
        drop(event_loop.enter_live().unwrap());
        assert!(!decide(&event_loop, before), "one came and went");
        let in_time = event_loop.enter().unwrap();
        assert!(!decide(&event_loop, entered(&event_loop)), "one is there");
        drop(in_time);
        assert!(decide(&event_loop, entered(&event_loop)));
        // The thread itself is still there.
        assert!(!is_live(&event_loop));
        assert_eq!(event_loop.live.count.load(Ordering::SeqCst), 1);
        let (finished, done) = mpsc::channel();
        let late = event_loop.enter().unwrap();
        late.handle().spawn(async move { finished.send(()) });
        done.recv_timeout(5 * LINGER).unwrap();
        assert_eq!(event_loop.live.count.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn an_event_loop_whose_thread_cannot_be_started_goes_in_a_task_of_another() {
        let unstarted = unwaited(runtime().unwrap());
        runtime().unwrap().block_on(async { drop(unstarted) });
    }

    #[test]
    fn a_task_that_goes_on_keeps_the_thread() {
        let event_loop = EventLoop::new(&Arc::default());
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        event_loop.enter().unwrap().handle().spawn(released);
        thread::sleep(2 * LINGER);
        assert!(is_live(&event_loop));
        release.send(()).unwrap();
        assert!(ends(&event_loop));
    }
}
