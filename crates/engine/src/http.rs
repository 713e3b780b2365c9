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
use tokio::runtime::Runtime;
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
pub mod event_loop;
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

/// The most threads that serve. Threads of one address space slow each other down, because each unmapping, such as that of a
/// guest's file or of a memory in a pool, interrupts all of them.
const MAX_THREADS: usize = 4;

/// Loaded code and its engine.
pub struct Loaded {
    serving: Serving,
    /// The component, for its instances and for the profile.
    pub component: Component,
    /// Memory of the instances, unless a pool has it.
    slots: Arc<Slots>,
}

impl Loaded {
    /// Loads the code for instances in slots or in a pool, as it was compiled. If the address space has no room for a pool, each
    /// instance is allocated for itself.
    ///
    /// # Errors
    /// If the code was compiled for another engine.
    pub fn new(plan: &Plan, code: &Code, page_map: Option<File>) -> wasmtime::Result<Loaded> {
        let (slots, settings) = (Slots::new(page_map), &plan.grants.code);
        let not_in_slots = match Serving::in_slots(&slots, code, settings) {
            Ok((serving, component)) => {
                if !slots.has_page_map() {
                    log("note: there is no page map, with which an instance takes less time");
                }
                return Ok(Loaded { serving, component, slots });
            }
            Err(error) => one_line(&error),
        };
        let pooled = Serving::pooled(instances::at_most(&plan.http), code, settings);
        let (serving, component) = match pooled {
            Ok(pooled) => pooled,
            Err(error) => {
                // The reason why it is not code for slots helps only if it is not code for a pool either.
                let on_demand = Serving::on_demand(code, settings).with_context(|| not_in_slots)?;
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

/// Serves until SIGTERM or SIGINT. `idle` is called before the server waits for its first request, and whenever it has had no
/// request for a while.
pub fn serve(
    plan: &Plan,
    loaded: Loaded,
    tokio: Runtime,
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
    let stop = {
        let _entered = tokio.enter();
        signals::first_signal(signals).context("wait for signals")?
    };
    let spans = Spans::new(&plan, shared.outgoing.clone(), tokio.handle()).map(Arc::new);
    let observer = Observer::new(&plan.http, metrics.clone(), spans.is_some());
    let live = Arc::new(Live::default());
    let first = EventLoop::new(&live);
    let guest = Guest::new(&loaded, plan.clone(), shared, clock, metrics.clone(), first.clone())?;
    // Frees most of the linker: only what the guest imports is needed from here on.
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
                // The annotation applies to all containers of the Pod, and only one of them can have the port.
                Err(error) => log(&format!("warning: no metrics: {}", one_line(&error))),
            }
        }
        let served = accept::accept(&threads, &plan.http, stop, idle).await;
        if let Some(spans) = spans {
            // The event loop must stay free, because it sends the spans.
            spawn_blocking(move || spans.end()).await.context("send the last spans")?;
        }
        served
    });
    // Whatever still runs ends with the process: nothing waits for a guest in an endless loop, and instances that wait for
    // requests have not failed.
    std::mem::forget(tokio);
    served.map(|()| 0)
}

/// Returns the number of serving threads: one for each processor of the container, up to [`MAX_THREADS`].
fn processors(plan: &Plan) -> usize {
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    plan.http.processors.unwrap_or(machine).min(machine).min(MAX_THREADS)
}
