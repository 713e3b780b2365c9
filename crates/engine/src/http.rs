//! Serves HTTP with a guest of `wasi:http` 0.2 or 0.3.
//!
//! ```text
//! listen → accept → threads → connection (HTTP/1.1 or h2c) → service → instances → response
//!             │        └ idle: connections between two requests, on the first thread
//!             └ SIGTERM, SIGINT: stop accepting, let connections finish their requests, exit 0;
//!                                a second one ends the process at once
//! ```
//!
//! Each step bounds what a client may ask for: `accept` bounds connections; `connection`, `wire` and `streams` bound
//! silence; `head` bounds heads; `body` bounds bodies; `service` bounds time; `instances` bounds instances, and `share`
//! one connection's part of them; the `clock` bounds a guest's time slice. `response` decides how a response ends.

use std::fs::File;
use std::sync::Arc;

use nix::sys::signal::SigSet;
use tokio::task::spawn_blocking;
use wasmtime::component::Component;
use wasmtime::error::Context as _;
use wasmtime_wasi_http::handler::ProxyHandler;

use crate::code::Code;
use crate::profile::Profiled;
use crate::report::{log, one_line};
use crate::serving::Serving;
use crate::serving::slots::Slots;
use crate::state::Shared;
use crate::{Plan, signals};

mod accept;
mod body;
mod client;
mod clock;
mod connect;
mod connection;
pub mod errors;
mod event_loop;
mod head;
mod idle;
mod instances;
mod listen;
mod metrics;
mod observe;
pub mod outgoing;
mod response;
pub mod roots;
mod service;
mod share;
pub mod spans;
mod streams;
mod threads;
pub mod tracing;
mod wire;

use clock::Clock;
use event_loop::{EventLoop, Live};
use instances::Guest;
use metrics::Metrics;
use observe::Observer;
use service::Service;
use share::Room;
use spans::Spans;
use threads::Threads;

/// Threads that serve. More of one address space slow each other down: whatever of it is unmapped, as by a guest's file or
/// in a pool, interrupts all.
const MAX_THREADS: usize = 4;

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
                    log("note: there is no page map, with which an instance takes less time");
                }
                return Ok(Loaded { serving, component, slots });
            }
            Err(error) => one_line(&error),
        };
        let (serving, component) = match Serving::pooled(instances::at_most(&plan.http), code) {
            Ok(pooled) => pooled,
            Err(error) => {
                // For code that is for slots this reason says nothing; for other code the first one does.
                let on_demand = Serving::on_demand(code).with_context(|| not_in_slots)?;
                let reason = one_line(&error);
                log(&format!(
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
    loaded: Loaded,
    shared: Arc<Shared>,
    signals: SigSet,
    profiled: Option<Profiled>,
    idle: fn(),
) -> wasmtime::Result<u8> {
    let metrics = plan.http.metrics.map(|_| Metrics::new());
    let plan = Arc::new(plan.clone());
    let (outgoing, interfaces) = (shared.outgoing.clone(), shared.interfaces.clone());
    let clock = Clock::new(loaded.serving.engine.clone(), loaded.slots.clone(), move || {
        outgoing.release();
        interfaces.keyvalue.release();
        idle();
    });
    let tokio = event_loop::runtime().context("start the event loop")?;
    let stop = {
        let _entered = tokio.enter();
        signals::first_signal(signals).context("wait for signals")?
    };
    let spans = Spans::new(&plan, shared.outgoing.clone(), tokio.handle()).map(Arc::new);
    let observer = Observer::new(&plan.http, metrics.clone(), spans.is_some());
    let live = Arc::new(Live::default());
    let first = EventLoop::new(&live);
    let guest = Guest::new(&loaded, plan.clone(), shared, clock, metrics.clone(), first.clone())?;
    // What the guest does not import is not needed from here on: most of the linker.
    drop(loaded);
    let others = (1..processors(&plan)).map(|_| EventLoop::new(&live));
    let handler =
        |event_loop: Arc<EventLoop>| (event_loop.clone(), ProxyHandler::new(guest.on(event_loop)));
    let handlers: Vec<_> = [first].into_iter().chain(others).map(handler).collect();
    let room = instances::at_most(&plan.http) as usize * instances::at_a_time(&plan);
    let room = Room::new(room);
    let service = |thread| {
        let mut handlers = handlers.clone();
        handlers.rotate_left(thread);
        let event_loop = handlers[0].0.clone();
        if plan.http.requests(plan.world) == 1 {
            handlers.truncate(1);
        }
        let (settings, observer, spans) = (plan.http.clone(), observer.clone(), spans.clone());
        (event_loop, Service { handlers, settings, room: room.clone(), observer, spans })
    };
    let threads = Threads::new((0..handlers.len()).map(service), live, tokio.handle().clone());
    let served = tokio.block_on(async {
        if let Some(profiled) = profiled {
            tokio::spawn(async {
                if let Err(error) = profiled.serve().await {
                    log(&format!("warning: no profile can be taken: {error}"));
                }
            });
        }
        if let (Some(metrics), Some(address)) = (metrics, plan.http.metrics) {
            match listen::for_metrics(address) {
                Ok(listener) => drop(tokio::spawn(metrics.serve(listener))),
                // Of several containers in a Pod, which has the annotation, one can.
                Err(error) => log(&format!("warning: no metrics: {}", one_line(&error))),
            }
        }
        let served = accept::accept(&threads, &plan.http, stop, idle).await;
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
