//! Event loops, of which each thread that serves has one.

use std::future::pending;
use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use crate::host_calls;

/// Has another event loop do it, as long as the future lives; none where that failed.
pub async fn elsewhere<T: Send + 'static>(
    event_loop: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Option<T> {
    let mut there = JoinSet::new();
    there.spawn_on(work, event_loop);
    there.join_next().await?.ok()
}

/// As many as there are to be. One is the caller's own; of several each has a thread, as long as the process lives.
///
/// # Errors
/// Where there can be no further thread or event loop.
pub fn event_loops(own: &Runtime, count: usize) -> io::Result<Vec<Handle>> {
    match count {
        1 => Ok(vec![own.handle().clone()]),
        _ => (0..count).map(|_| start()).collect(),
    }
}

fn start() -> io::Result<Handle> {
    let event_loop = event_loop()?;
    let handle = event_loop.handle().clone();
    thread::Builder::new().name("http".into()).spawn(move || {
        let _noted = host_calls::note();
        event_loop.block_on(pending::<()>());
    })?;
    Ok(handle)
}

/// Of one thread.
///
/// # Errors
/// Of epoll_create(2) and the like.
pub fn event_loop() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
