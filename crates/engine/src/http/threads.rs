//! The threads that serve, each with an event loop of its own.
//!
//! A connection stays with the thread that it was given to, and so do its requests and the instances that serve them:
//! what moves from one processor to another makes both wait, which was seen to take longer than the guest. The exceptions
//! are those without which a processor would have nothing to do: requests of HTTP/2, of which one connection may have
//! many, and a request for which only another thread has an instance left.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::task::JoinSet;
use wasmtime_wasi_http::WasiBody;

use super::connection::Connection;
use super::service::{self, Service};
use crate::host_calls;
use crate::report::tell;

/// The threads, until they are dropped.
pub struct Threads {
    all: Vec<Thread>,
    /// Their event loops end with it.
    _end: watch::Sender<()>,
}

struct Thread {
    event_loop: Handle,
    service: Arc<Service>,
    /// There is another one for each connection and each request of HTTP/2 that it serves.
    busy: Arc<()>,
}

impl Threads {
    /// One for each service. Where that is one, it is the caller's own.
    ///
    /// # Errors
    /// Where there can be no further thread or event loop.
    pub fn start(own: &Runtime, services: Vec<Service>) -> io::Result<Arc<Threads>> {
        let (_end, ending) = watch::channel(());
        let count = services.len();
        let thread = |service| {
            let event_loop = if count == 1 { own.handle().clone() } else { start(ending.clone())? };
            Ok(Thread { event_loop, service: Arc::new(service), busy: Arc::default() })
        };
        let all = services.into_iter().map(thread).collect::<io::Result<_>>()?;
        Ok(Arc::new(Threads { all, _end }))
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
        client: Option<SocketAddr>,
        request: Request<Incoming>,
    ) -> Result<Response<WasiBody>, Infallible> {
        let number = self.least_busy(Some(own));
        let thread = &self.all[number];
        let _busy = thread.busy.clone();
        let response = service::respond(thread.service.clone(), client, request);
        if number == own {
            return response.await;
        }
        // It ends with this future, when the client has gone away.
        let mut there = JoinSet::new();
        there.spawn_on(response, &thread.event_loop);
        match there.join_next().await {
            Some(Ok(response)) => response,
            _ => Ok(service::failed()),
        }
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

fn start(mut ending: watch::Receiver<()>) -> io::Result<Handle> {
    let event_loop = event_loop()?;
    let handle = event_loop.handle().clone();
    thread::Builder::new().name("http".into()).spawn(move || {
        let _noted = host_calls::note();
        // An error says that whoever could send anything is gone, which is what is waited for.
        let _ = event_loop.block_on(ending.changed());
        // A guest may still be in a loop of its own.
        event_loop.shutdown_background();
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
