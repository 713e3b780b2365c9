//! Serves HTTP with a guest of `wasi:http` 0.2 or 0.3.
//!
//! ```text
//! listen → accept → threads → connection (HTTP/1.1 or h2c) → service → instances → response
//!             └ SIGTERM, SIGINT: stop accepting, let connections finish their requests, exit 0;
//!                                a second one ends the process at once
//! ```
//!
//! What a client may ask for is bounded at each step: connections here, silence and heads in `connection`, bodies in
//! `body`, time in `service`, instances in `instances`, and a guest's turn by the `clock`.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::spawn_blocking;
use wasmtime::component::Component;
use wasmtime::error::Context as _;
use wasmtime_wasi_http::handler::ProxyHandler;

use crate::code::Code;
use crate::report::{one_line, tell};
use crate::serving::Serving;
use crate::serving::slots::Slots;
use crate::{Plan, signals};

mod body;
mod clock;
mod connection;
mod instances;
mod listen;
mod metrics;
mod observe;
pub mod outgoing;
pub mod roots;
mod service;
pub mod settings;
pub mod spans;
mod threads;
pub mod tracing;

use clock::Clock;
use instances::Guest;
use metrics::Metrics;
use observe::Observer;
use outgoing::Outgoing;
use service::Service;
use settings::HttpSettings;
use spans::Spans;
use threads::Threads;

/// Threads that serve. More of one address space slow each other down: whatever of it is unmapped, as by a guest's file or
/// in a pool, interrupts all.
const MAX_THREADS: usize = 4;

/// After accept(2) failed for want of descriptors or memory: others end meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a client gets for whom there is no place.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\
                          connection: close\r\n\r\n";

/// Code that is loaded, with the engine it is loaded in.
pub struct Loaded {
    serving: Serving,
    /// For the profile, and to be instantiated.
    pub component: Component,
    /// What instances are made in, unless it is a pool.
    slots: Arc<Slots>,
}

impl Loaded {
    /// With slots for instances, or a pool, as the code was compiled; where there is no room for a pool without.
    ///
    /// # Errors
    /// Of code that is not of this engine.
    pub fn new(plan: &Plan, code: &Code, page_map: Option<File>) -> wasmtime::Result<Loaded> {
        let slots = Slots::new(page_map);
        let not_in_slots = match Serving::in_slots(&slots, code) {
            Ok((serving, component)) => {
                if !slots.has_page_map() {
                    tell("note: there is no page map, with which an instance takes less time");
                }
                return Ok(Loaded { serving, component, slots });
            }
            Err(error) => one_line(&error),
        };
        let (serving, component) = match Serving::pooled(plan.http.instances(), code) {
            Ok(pooled) => pooled,
            Err(error) => {
                // Of code that is for slots this tells nothing, of other code the first does.
                let on_demand = Serving::on_demand(code).with_context(|| not_in_slots)?;
                let reason = one_line(&error);
                tell(&format!(
                    "note: instances are not kept in a pool, which takes longer: {reason}"
                ));
                on_demand
            }
        };
        Ok(Loaded { serving, component, slots })
    }
}

/// Serves until SIGTERM or SIGINT. `idle` is called when it waits for the first request, and whenever it has had none
/// for a while.
pub fn serve(
    plan: &Plan,
    loaded: &Loaded,
    outgoing: Arc<Outgoing>,
    signals: SigSet,
    idle: fn(),
) -> wasmtime::Result<u8> {
    let metrics = plan.http.metrics.map(|_| Metrics::new());
    let plan = Arc::new(plan.clone());
    let clock = Clock::start(loaded.serving.engine.clone(), loaded.slots.clone(), idle)?;
    let stop = signals::tell_the_first(signals).context("wait for signals")?;
    let tokio = threads::event_loop().context("start the event loop")?;
    let spans = Spans::new(&plan, outgoing.clone(), tokio.handle()).map(Arc::new);
    let observer = Observer::new(&plan.http, metrics.clone(), spans.is_some());
    let guest = Guest::new(loaded, plan.clone(), outgoing, clock, metrics.clone())?;
    let event_loops = threads::event_loops(&tokio, processors(&plan));
    let event_loops = event_loops.context("start the threads that serve HTTP")?;
    let handler = |event_loop: Handle| (event_loop, ProxyHandler::new(guest.clone()));
    let handlers: Vec<_> = event_loops.into_iter().map(handler).collect();
    let service = |thread| {
        let mut handlers = handlers.clone();
        handlers.rotate_left(thread);
        let event_loop = handlers[0].0.clone();
        if plan.http.requests(plan.world) == 1 {
            handlers.truncate(1);
        }
        let (settings, observer, spans) = (plan.http.clone(), observer.clone(), spans.clone());
        (event_loop, Service { handlers, settings, observer, spans })
    };
    let threads = Threads::new((0..handlers.len()).map(service));
    let served = tokio.block_on(async {
        if let (Some(metrics), Some(address)) = (metrics, plan.http.metrics) {
            match listen::for_metrics(address) {
                Ok(listener) => drop(tokio::spawn(metrics.serve(listener))),
                // Of several containers in a Pod, which has the annotation, one can.
                Err(error) => tell(&format!("warning: no metrics: {}", one_line(&error))),
            }
        }
        let served = accept(&threads, &plan.http, stop, idle).await;
        if let Some(spans) = spans {
            // It is the event loop that sends them.
            spawn_blocking(move || spans.end()).await.context("send the last spans")?;
        }
        served
    });
    // The process ends with what is still there: a guest in a loop of its own is not waited for, and instances that wait for
    // requests have not failed.
    std::mem::forget(tokio);
    served.map(|()| 0)
}

/// As many as there are for the container.
fn processors(plan: &Plan) -> usize {
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    plan.http.processors.unwrap_or(machine).min(machine).min(MAX_THREADS)
}

/// Accepts connections until it is told to stop, and then lets them finish.
async fn accept(
    threads: &Arc<Threads>,
    settings: &HttpSettings,
    mut stop: oneshot::Receiver<Signal>,
    idle: fn(),
) -> wasmtime::Result<()> {
    let listener = listen::listen(settings)?;
    trace::last("listens");
    idle();
    let (end, ending) = watch::channel(false);
    let places = Arc::new(Semaphore::new(settings.connections as usize));
    let serve = |stream: TcpStream| match places.clone().try_acquire_owned() {
        Ok(place) => {
            if let Err(error) = threads.serve(stream, place, ending.clone()) {
                tell(&format!("warning: serve a connection: {error}"));
            }
        }
        // As much of it as the socket takes, which is new.
        Err(_) => drop(stream.try_write(NO_PLACE)),
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => serve(stream),
                Err(error) => {
                    tell(&format!("warning: accept a connection: {error}"));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            _ = &mut stop => break,
        }
    }
    end.send_replace(true);
    // Those that the kernel has accepted may have sent a request. It is asked itself: whether the event loop has heard
    // of them yet is another matter.
    let listener = listener.into_std()?;
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        serve(TcpStream::from_std(stream)?);
    }
    drop(listener);
    // Until each connection has given back its place. It is never closed.
    let _ = places.acquire_many(settings.connections).await;
    Ok(())
}
