//! The guest's instances: how many there are, what each of them serves, and when it ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use plan::HttpSettings;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Sleep, sleep, sleep_until, timeout};
use wasmtime::{Engine, PoolConcurrencyLimitError, Store, StoreContextMut};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};

use super::Loaded;
use super::clock::{Clock, Running};
use super::event_loop::{EventLoop, Use};
use super::metrics::Metrics;
use super::response::{EndedInstance, Exchange};
use super::tracing::Trace;
use crate::report::{self, log};
use crate::state::{Shared, State};
use crate::{Plan, World, artifacts, host_calls, interfaces, memory};

/// How long an instance that may serve further requests waits for one.
const IDLE: Duration = Duration::from_secs(5);

/// A guest that does not let its request be ended has so much longer.
const MARGIN: Duration = Duration::from_secs(1);

/// Requests that an instance of 0.3 serves at a time; of 0.2 it is one.
const AT_A_TIME_03: usize = 16;

/// The requests that an instance of this plan serves at a time. Fuel is of an instance and not of a request, so that with a
/// limit of it there is one.
pub fn at_a_time(plan: &Plan) -> usize {
    match plan.world {
        World::HttpService03 if plan.grants.code.fuel().is_none() => {
            AT_A_TIME_03.min(plan.http.requests(plan.world) as usize)
        }
        _ => 1,
    }
}

/// The instances that there may be at a time.
pub fn at_most(settings: &HttpSettings) -> u32 {
    settings.instances(memory::for_guests())
}

/// Receives, when the instance has ended, whether it failed, which is logged by then.
type Ended = oneshot::Sender<bool>;

/// What an instance has to know of a request.
pub struct Asked {
    /// Receives how its instance ended.
    pub ended: Ended,
    /// What it is called, where the guest's lines are to begin with that.
    pub id: Option<String>,
    /// What it is a part of.
    pub trace: Option<Trace>,
    /// Whether its scheme is `https`, for a proxy in front may terminate TLS.
    pub is_https: bool,
    /// Shared with its response.
    pub exchange: Arc<Exchange>,
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
    shared: Arc<Shared>,
    pre: Arc<ProxyPre<State>>,
    clock: Arc<Clock>,
    free: Arc<Semaphore>,
    requests: usize,
    metrics: Option<Arc<Metrics>>,
    event_loop: Arc<EventLoop>,
}

impl Guest {
    /// A component whose code is loaded, with its instances on that event loop.
    ///
    /// # Errors
    /// Of a component that is not what the plan says.
    pub fn new(
        Loaded { serving, component, .. }: &Loaded,
        plan: Arc<Plan>,
        shared: Arc<Shared>,
        clock: Clock,
        metrics: Option<Arc<Metrics>>,
        event_loop: Arc<EventLoop>,
    ) -> wasmtime::Result<Guest> {
        let linker = interfaces::imported(&serving.linker, component)?;
        let pre = linker.instantiate_pre(component)?;
        let pre = match plan.world {
            World::HttpService03 => {
                ProxyPre::P3(wasmtime_wasi_http::p3::bindings::ServicePre::new(pre)?)
            }
            _ => ProxyPre::P2(wasmtime_wasi_http::p2::bindings::ProxyPre::new(pre)?),
        };
        let engine = serving.engine.clone();
        let free = Arc::new(Semaphore::new(at_most(&plan.http) as usize));
        let requests = plan.http.requests(plan.world) as usize;
        let (pre, clock) = (Arc::new(pre), Arc::new(clock));
        Ok(Guest { engine, plan, shared, pre, clock, free, requests, metrics, event_loop })
    }

    /// The same guest, with instances on another event loop.
    pub fn on(&self, event_loop: Arc<EventLoop>) -> Guest {
        Guest { event_loop, ..self.clone() }
    }
}

impl HandlerState for Guest {
    type StoreData = State;
    type WorkerExpiration = Expiration;
    type WorkerState = Served;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Expiration, Served>> {
        // What this thread did for the request before is not this one's.
        host_calls::forget();
        let permit = self.free.clone().try_acquire_owned().map_err(|_| Busy)?;
        let reservation = Reservation { _permit: permit, _used: self.event_loop.enter()? };
        let running = self.clock.running()?;
        let mut store = State::store(&self.engine, &self.plan, &self.shared)?;
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let time = self.plan.http.request_time;
        let proxy = timeout(time, self.pre.instantiate_async(&mut store)).await??;
        let at_a_time = at_a_time(&self.plan);
        if let Some(metrics) = &self.metrics {
            metrics.created();
        }
        let exchanges = Exchanges::default();
        let state = Served {
            exchanges: exchanges.clone(),
            plan: self.plan.clone(),
            metrics: self.metrics.clone(),
            ended: Mutex::default(),
            requests: self.requests,
            at_a_time,
            reservation: Mutex::new(Some(reservation)),
            _running: running,
        };
        let idle = if self.requests > 1 { IDLE } else { Duration::ZERO };
        let (time, is_single) = (time + MARGIN, at_a_time == 1);
        let expiration = Expiration { time, idle, exchanges, is_single, sent: None, timer: None };
        Ok(Instance { store, proxy, view: State::http, expiration, state })
    }
}

/// Gives an instance the fuel of its next request. That fails only for an engine without fuel, which such a plan has not.
fn refuel(store: &mut StoreContextMut<'_, State>, fuel: u64) {
    if let Err(error) = store.set_fuel(fuel) {
        log(&report::text(&error));
    }
}

/// Permit of an instance, and the thread that it is on.
pub struct Reservation {
    _permit: OwnedSemaphorePermit,
    _used: Use,
}

/// When an instance ends: one that does not come back, and one that is not needed any more.
pub struct Expiration {
    /// Limit until a response begins, and for what the guest does after its responses are over. While a response is being sent
    /// there is no limit, because a stream may be long.
    time: Duration,
    /// Without a request.
    idle: Duration,
    exchanges: Exchanges,
    /// Whether it serves one request at a time.
    is_single: bool,
    /// When the limit was last extended because a response was being sent.
    sent: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Expiration {
    /// Whether a response is being sent that the guest may still be writing.
    fn is_sending(&self, status: WorkerStatus) -> bool {
        let exchanges = self.exchanges.lock();
        match status {
            WorkerStatus::Idle => false,
            // With several at a time, the status says that one of them has no response in time.
            WorkerStatus::Requests => {
                self.is_single && exchanges.last().is_some_and(Exchange::is_sending)
            }
            WorkerStatus::PostReturn => exchanges.iter().any(Exchange::is_sending),
        }
    }
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        status: WorkerStatus,
        since: Instant,
    ) -> Poll<()> {
        if status == WorkerStatus::Idle {
            // Requests that are over must not count in the shares of their connections.
            self.exchanges.lock().retain(Exchange::is_open);
        }
        let now = Instant::now();
        let (since, time) = match status {
            WorkerStatus::Idle => (since, self.idle),
            WorkerStatus::Requests => (since, self.time),
            WorkerStatus::PostReturn => (since.max(self.sent.unwrap_or(since)), self.time),
        };
        let mut end = since + time;
        if now >= end && self.is_sending(status) {
            // To be looked at again.
            self.sent = Some(now);
            let later = self.timer.as_ref().map(|timer| timer.deadline().into_std());
            end = later.filter(|later| *later > now).unwrap_or(now + time);
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

/// Requests of an instance that may still be served, or whose response may still be sent.
#[derive(Clone, Default)]
struct Exchanges(Arc<Mutex<Vec<Arc<Exchange>>>>);

impl Exchanges {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Exchange>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an instance serves.
pub struct Served {
    exchanges: Exchanges,
    plan: Arc<Plan>,
    metrics: Option<Arc<Metrics>>,
    /// Of the requests that were begun; the last is dropped with the instance.
    ended: Mutex<Vec<Ended>>,
    /// All in all.
    requests: usize,
    at_a_time: usize,
    reservation: Mutex<Option<Reservation>>,
    _running: Running,
}

impl Served {
    /// Drops the store of an instance; that of a 0.3 instance whose responses are being sent with the last of them.
    fn end(&self, store: Store<State>) {
        let mut exchanges = std::mem::take(&mut *self.exchanges.lock());
        exchanges.retain(Exchange::is_open);
        if self.plan.world != World::HttpService03 || exchanges.is_empty() {
            return drop(store);
        }
        let reservation = self.reservation.lock().unwrap_or_else(PoisonError::into_inner).take();
        let instance = Arc::new(EndedInstance::new(store, reservation));
        for exchange in exchanges {
            exchange.instance_ended(instance.clone());
        }
    }
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
        Asked { ended, id, trace, is_https, exchange }: Asked,
        _: wasmtime::component::GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        // Of several at a time, it is not known which one the guest continues.
        let mut exchanges = self.exchanges.lock();
        if self.at_a_time == 1 {
            store.data_mut().begin(id, trace, is_https);
        }
        if let Some(fuel) = self.plan.grants.code.fuel() {
            refuel(&mut store, fuel);
        }
        exchanges.retain(Exchange::is_open);
        exchanges.push(exchange);
        drop(exchanges);
        let mut waiting = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|ended| !ended.is_closed());
        waiting.push(ended);
        Box::pin(sleep(self.plan.http.request_time))
    }

    fn drop(&self, mut store: Store<State>, result: wasmtime::Result<()>) {
        if let Err(error) = &result {
            log(&report::text(error));
            artifacts::leave_core_dump(&self.plan, &mut store, error);
        }
        self.end(store);
        if let Some(metrics) = &self.metrics {
            metrics.ended(result.is_err());
        }
        let waiting =
            std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner));
        for ended in waiting {
            // There is no receiver if the response was sent before.
            let _ = ended.send(result.is_err());
        }
    }
}

#[cfg(test)]
mod tests {
    use grants::{Giver, Granted};

    use super::*;

    #[test]
    fn an_instance_serves_one_request_at_a_time_if_its_fuel_is_limited() {
        let plan = |world| Plan::new(world, None, vec![], &[], "/".into()).expect("a plan");
        let mut plan_03 = plan(World::HttpService03);
        assert_eq!((at_a_time(&plan(World::HttpProxy02)), at_a_time(&plan_03)), (1, AT_A_TIME_03));
        let entries = vec!["1000".parse().expect("is fuel")];
        plan_03.grants.code.fuel = Some(Granted { entries, giver: Giver::Pod });
        assert_eq!(at_a_time(&plan_03), 1);
    }
}
