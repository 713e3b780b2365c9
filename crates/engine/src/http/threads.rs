//! The serving threads, each with an event loop of its own.
//!
//! A connection stays with its thread until it is idle. So do its requests and the instances that serve them, because
//! what moves from one processor to another makes both wait, and that was measured to take longer than the guest
//! itself. There are two exceptions, without which a processor would have nothing to do: requests of HTTP/2, because
//! one connection may have many, and a request for which only another thread has an instance left.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, watch};
use wasmtime_wasi_http::WasiBody;

use super::client::Client;
use super::connection::{Connection, Responding};
use super::event_loop::{EventLoop, Live, Use, elsewhere};
use super::idle::{Idle, not_served};
use super::service::{self, Service};

/// The threads.
pub struct Threads {
    all: Vec<Thread>,
    live: Arc<Live>,
    /// The event loop of the process's first thread, where idle connections wait.
    first: Handle,
}

struct Thread {
    event_loop: Arc<EventLoop>,
    service: Arc<Service>,
    /// Strong count: one more for each of its connections, and for each HTTP/2 request until its response begins.
    busy: Arc<()>,
}

impl Threads {
    /// Makes one thread for each service, with the event loop on which it runs.
    pub fn new(
        services: impl IntoIterator<Item = (Arc<EventLoop>, Service)>,
        live: Arc<Live>,
        first: Handle,
    ) -> Arc<Threads> {
        let thread = |(event_loop, service)| Thread {
            event_loop,
            service: Arc::new(service),
            busy: Arc::default(),
        };
        Arc::new(Threads { all: services.into_iter().map(thread).collect(), live, first })
    }

    /// Waits until all of them have ended, because nothing used them for a while.
    pub async fn none_left(&self) {
        self.live.none_left().await;
    }

    /// Serves a connection on the thread that has the least to do, until it ends.
    ///
    /// # Errors
    /// Those of epoll_create(2) and the like, if no thread can be started.
    pub fn serve(
        self: &Arc<Threads>,
        connection: Idle,
        permit: OwnedSemaphorePermit,
        ending: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let (number, used) = self.enter_least_busy()?;
        let thread = &self.all[number];
        let (service, busy) = (thread.service.clone(), thread.busy.clone());
        let handle = used.handle().clone();
        let threads = self.clone();
        handle.spawn(async move {
            let others = threads.clone();
            let respond = move |client, request| -> Responding {
                let threads = others.clone();
                Box::pin(async move { threads.respond(number, client, request).await })
            };
            let served = Connection { service, respond, ending: ending.clone() };
            if let Some(idle) = served.serve(connection).await {
                threads.first.clone().spawn(threads.wait(idle, permit, ending));
            }
            drop((busy, used));
        });
        Ok(())
    }

    /// Waits, on the process's first thread, until the client of an idle connection sends something.
    async fn wait(
        self: Arc<Threads>,
        idle: Idle,
        permit: OwnedSemaphorePermit,
        ending: watch::Receiver<bool>,
    ) {
        let Some(connection) = idle.next(&mut ending.clone()).await else { return };
        if let Err(error) = self.serve(connection, permit, ending) {
            not_served(&error);
        }
    }

    /// Answers a request of a connection that has many at a time, on the thread that has the least to do.
    async fn respond(
        &self,
        own: usize,
        client: Arc<Client>,
        request: Request<Incoming>,
    ) -> Result<Response<WasiBody>, Infallible> {
        let number = self.least_busy(Some(own));
        let other = (number != own).then(|| self.all[number].event_loop.enter().ok()).flatten();
        let thread = &self.all[if other.is_some() { number } else { own }];
        let _busy = thread.busy.clone();
        let response = service::respond(thread.service.clone(), client, request);
        match other {
            None => response.await,
            Some(used) => {
                let response = elsewhere(&used, response).await;
                response.unwrap_or_else(|| Ok(service::failed()))
            }
        }
    }

    /// Uses the thread with the least to do. If it does not exist and cannot be started, uses another one that exists.
    fn enter_least_busy(&self) -> io::Result<(usize, Use)> {
        let number = self.least_busy(None);
        self.all[number].event_loop.enter().map(|used| (number, used)).or_else(|error| {
            let live = |(number, thread): (usize, &Thread)| {
                thread.event_loop.enter_live().map(|used| (number, used))
            };
            self.all.iter().enumerate().find_map(live).ok_or(error)
        })
    }

    /// Returns the thread with the least to do. A connection does not count for its own requests.
    fn least_busy(&self, own: Option<usize>) -> usize {
        let busy = |number: &usize| {
            let is_own = own == Some(*number);
            (Arc::strong_count(&self.all[*number].busy) - usize::from(is_own), !is_own)
        };
        (0..self.all.len()).min_by_key(busy).unwrap_or_default()
    }
}
