//! The guest's instances: how many there are, what each of them serves, and when it ends.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Sleep, sleep, sleep_until, timeout};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, StoreContextMut};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};

use super::Loaded;
use super::clock::{Clock, Running};
use super::metrics::Metrics;
use super::outgoing::Outgoing;
use super::tracing::Trace;
use crate::report::{self, tell};
use crate::state::State;
use crate::{Plan, World, host_calls};

/// How long an instance that may serve further requests waits for one.
const IDLE: Duration = Duration::from_secs(5);

/// A guest that does not let its request be ended has so much longer.
const MARGIN: Duration = Duration::from_secs(1);

/// Requests that an instance of 0.3 serves at a time; of 0.2 it is one.
const AT_A_TIME_03: usize = 16;

/// Says whether a failure of the instance has been told: by then the instance has ended.
type Told = oneshot::Sender<bool>;

/// What an instance has to know of a request.
pub struct Asked {
    /// Who is told how it ended.
    pub told: Told,
    /// What it is called, where the guest's lines are to begin with that.
    pub id: Option<String>,
    /// What it is a part of.
    pub trace: Option<Trace>,
    /// Whether its response is being sent.
    pub sending: Sending,
}

/// Whether a response is being sent, from its beginning to its end.
pub type Sending = Arc<AtomicBool>;

/// A response that is being sent, until it is dropped.
pub struct Sent(Sending);

impl Sent {
    /// Begins to send it.
    pub fn begin(sending: Sending) -> Sent {
        sending.store(true, Ordering::Relaxed);
        Sent(sending)
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// As many instances as there may be.
#[derive(Debug, thiserror::Error)]
#[error("as many requests as may be are being served")]
pub struct Busy;

impl Busy {
    /// Whether that is why there is no instance.
    pub fn is(error: &wasmtime::Error) -> bool {
        error.downcast_ref::<Busy>().is_some()
            || error.downcast_ref::<PoolConcurrencyLimitError>().is_some()
    }
}

/// The guest, ready to be instantiated.
#[derive(Clone)]
pub struct Guest {
    engine: Engine,
    plan: Arc<Plan>,
    outgoing: Arc<Outgoing>,
    pre: Arc<ProxyPre<State>>,
    clock: Arc<Clock>,
    free: Arc<Semaphore>,
    requests: usize,
    metrics: Option<Arc<Metrics>>,
}

impl Guest {
    /// A component whose code is loaded.
    ///
    /// # Errors
    /// Of a component that is not what the plan says.
    pub fn new(
        Loaded { serving, component, .. }: &Loaded,
        plan: Arc<Plan>,
        outgoing: Arc<Outgoing>,
        clock: Clock,
        metrics: Option<Arc<Metrics>>,
    ) -> wasmtime::Result<Guest> {
        let pre = serving.linker.instantiate_pre(component)?;
        let pre = match plan.world {
            World::HttpService03 => {
                ProxyPre::P3(wasmtime_wasi_http::p3::bindings::ServicePre::new(pre)?)
            }
            _ => ProxyPre::P2(wasmtime_wasi_http::p2::bindings::ProxyPre::new(pre)?),
        };
        let engine = serving.engine.clone();
        let free = Arc::new(Semaphore::new(plan.http.instances() as usize));
        let requests = plan.http.requests(plan.world) as usize;
        let (pre, clock) = (Arc::new(pre), Arc::new(clock));
        Ok(Guest { engine, plan, outgoing, pre, clock, free, requests, metrics })
    }
}

impl HandlerState for Guest {
    type StoreData = State;
    type WorkerExpiration = Expiration;
    type WorkerState = Served;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Expiration, Served>> {
        // What this thread did for the request before is not this one's.
        host_calls::forget();
        let place = self.free.clone().try_acquire_owned().map_err(|_| Busy)?;
        let running = self.clock.running();
        let mut store = State::store(&self.engine, &self.plan, &self.outgoing)?;
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let time = self.plan.http.request_time;
        let proxy = timeout(time, self.pre.instantiate_async(&mut store)).await??;
        let at_a_time = match self.plan.world {
            World::HttpService03 => AT_A_TIME_03.min(self.requests),
            _ => 1,
        };
        if let Some(metrics) = &self.metrics {
            metrics.created();
        }
        let sending = Arc::<Mutex<Sending>>::default();
        let state = Served {
            sending: sending.clone(),
            plan: self.plan.clone(),
            metrics: self.metrics.clone(),
            told: Mutex::default(),
            requests: self.requests,
            at_a_time,
            _place: place,
            _running: running,
        };
        let idle = if self.requests > 1 { IDLE } else { Duration::ZERO };
        let expiration = Expiration { time: time + MARGIN, idle, sending, timer: None };
        Ok(Instance { store, proxy, view: State::http, expiration, state })
    }
}

/// When an instance ends: one that does not come back, and one that is not needed any more.
pub struct Expiration {
    /// For a request, until its response has begun, and when its client has gone away. As long as it is being sent there
    /// is no limit: a stream may be long.
    time: Duration,
    /// Without a request.
    idle: Duration,
    /// The last request.
    sending: Arc<Mutex<Sending>>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Expiration {
    fn is_sending(&self) -> bool {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner).load(Ordering::Relaxed)
    }
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        status: WorkerStatus,
        since: Instant,
    ) -> Poll<()> {
        let mut end = since
            + match status {
                WorkerStatus::Idle => self.idle,
                WorkerStatus::Requests => self.time,
                WorkerStatus::PostReturn => return Poll::Pending,
            };
        let now = Instant::now();
        if now >= end && status == WorkerStatus::Requests && self.is_sending() {
            // To be looked at again.
            let later = self.timer.as_ref().map(|timer| timer.deadline().into_std());
            end = later.filter(|later| *later > now).unwrap_or(now + self.time);
        }
        if now >= end {
            return Poll::Ready(());
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end.into())));
        if timer.deadline() != end.into() {
            timer.as_mut().reset(end.into());
        }
        timer.as_mut().poll(context)
    }
}

/// What an instance serves.
pub struct Served {
    sending: Arc<Mutex<Sending>>,
    plan: Arc<Plan>,
    metrics: Option<Arc<Metrics>>,
    /// Of the requests that were begun; the last is dropped with the instance.
    told: Mutex<Vec<Told>>,
    /// All in all.
    requests: usize,
    at_a_time: usize,
    _place: OwnedSemaphorePermit,
    _running: Running,
}

impl WorkerState for Served {
    type StoreData = State;
    type RequestData = Asked;

    fn should_accept_request(&self, now: usize, total: usize) -> ShouldAccept {
        match total < self.requests {
            false => ShouldAccept::Never,
            true if now < self.at_a_time => ShouldAccept::Yes,
            true => ShouldAccept::No,
        }
    }

    fn on_request_start(
        &self,
        mut store: StoreContextMut<'_, State>,
        Asked { told, id, trace, sending }: Asked,
        _: wasmtime::component::GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        // Of several at a time, nobody knows which it is that the guest goes on with.
        if self.at_a_time == 1 {
            store.data_mut().begin(id, trace);
            *self.sending.lock().unwrap_or_else(PoisonError::into_inner) = sending;
        }
        let mut waiting = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|told| !told.is_closed());
        waiting.push(told);
        Box::pin(sleep(self.plan.http.request_time))
    }

    fn drop(&self, store: Store<State>, result: wasmtime::Result<()>) {
        match &result {
            Ok(()) => drop(store),
            Err(error) => {
                tell(&report::text(error));
                self.plan.leave_core_dump(store, error);
            }
        }
        if let Some(metrics) = &self.metrics {
            metrics.ended(result.is_err());
        }
        let waiting =
            std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        for told in waiting {
            // Nobody waits where the response was sent before.
            let _ = told.send(result.is_err());
        }
    }
}
