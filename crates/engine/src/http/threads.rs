//! The threads that serve, each with an event loop of its own.
//!
//! A connection stays with the thread that it was given to, and so do its requests and the instances that serve them:
//! what moves from one processor to another makes both wait, which was seen to take longer than the guest. The exceptions
//! are those without which a processor would have nothing to do: requests of HTTP/2, of which one connection may have
//! many, and a request for which only another thread has an instance left.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::thread;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use wasmtime_wasi_http::WasiBody;

use super::connection::{Client, Connection};
use super::service::{self, Service};
use crate::host_calls;
use crate::report::tell;

/// The threads.
pub struct Threads {
    all: Vec<Thread>,
}

struct Thread {
    event_loop: Handle,
    service: Arc<Service>,
    /// There is another one for each of its connections, and for each request of HTTP/2 until its response begins.
    busy: Arc<()>,
}

impl Threads {
    /// One for each service, with the event loop that it runs on.
    pub fn new(services: impl IntoIterator<Item = (Handle, Service)>) -> Arc<Threads> {
        let thread = |(event_loop, service)| Thread {
            event_loop,
            service: Arc::new(service),
            busy: Arc::default(),
        };
        Arc::new(Threads { all: services.into_iter().map(thread).collect() })
    }

    /// Serves a connection on the thread that has the least to do.
    ///
    /// # Errors
    /// Of epoll_ctl(2).
    pub fn serve(
        self: &Arc<Threads>,
        stream: TcpStream,
        place: OwnedSemaphorePermit,
        ending: watch::Receiver<bool>,
    ) -> io::Result<()> {
        // Its events are those of the thread's own loop from here on.
        let stream = stream.into_std()?;
        let number = self.least_busy(None);
        let thread = &self.all[number];
        let busy = thread.busy.clone();
        let connection = Connection { threads: self.clone(), thread: number, ending };
        thread.event_loop.spawn(async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => connection.serve(stream).await,
                Err(error) => tell(&format!("warning: serve a connection: {error}")),
            }
            drop((place, busy));
        });
        Ok(())
    }

    /// What a thread answers its requests with.
    pub fn service(&self, thread: usize) -> &Arc<Service> {
        &self.all[thread].service
    }

    /// Answers a request of a connection that has many at a time, on the thread that has the least to do.
    pub async fn respond(
        &self,
        own: usize,
        client: Arc<Client>,
        request: Request<Incoming>,
    ) -> Result<Response<WasiBody>, Infallible> {
        let number = self.least_busy(Some(own));
        let thread = &self.all[number];
        let _busy = thread.busy.clone();
        let response = service::respond(thread.service.clone(), client, request);
        if number == own {
            return response.await;
        }
        elsewhere(&thread.event_loop, response).await.unwrap_or_else(|| Ok(service::failed()))
    }

    /// A thread's own connection is not in the way of its own requests.
    fn least_busy(&self, own: Option<usize>) -> usize {
        let busy = |number: &usize| {
            let is_own = own == Some(*number);
            (Arc::strong_count(&self.all[*number].busy) - usize::from(is_own), !is_own)
        };
        (0..self.all.len()).min_by_key(busy).unwrap_or_default()
    }
}

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
