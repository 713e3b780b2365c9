//! The guest's instances: how many there are, what each of them serves, and when it ends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
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
use crate::report::{self, log, log_of_request, one_line};
use crate::serving::slots::lacked_addresses;
use crate::state::{Shared, State};
use crate::{Plan, World, artifacts, host_calls, interfaces, memory};

/// Time for which an instance that may serve further requests waits for one.
const IDLE: Duration = Duration::from_secs(5);

/// Further time for a guest that does not let its request be ended.
const MARGIN: Duration = Duration::from_secs(1);

/// Number of requests that an instance of 0.3 serves at a time. An instance of 0.2 serves one.
const AT_A_TIME_03: usize = 16;

/// Logged once, because each further request would repeat it.
static LACKED_ADDRESSES: Once = Once::new();

/// Returns the number of requests that an instance of this plan serves in all. With a limit of fuel, an instance of 0.3 serves
/// one, because the fuel is that of the instance: after a response has begun, the guest may still be writing it when the next
/// request is handed to it.
fn requests(plan: &Plan) -> usize {
    match plan.world {
        World::HttpService03 if plan.grants.code.fuel().is_some() => 1,
        world => plan.http.requests(world) as usize,
    }
}

/// Returns the number of requests that an instance of this plan serves at a time.
pub fn at_a_time(plan: &Plan) -> usize {
    match plan.world {
        World::HttpService03 => AT_A_TIME_03.min(requests(plan)),
        _ => 1,
    }
}

/// Returns the largest number of instances at a time.
pub fn at_most(settings: &HttpSettings) -> u32 {
    settings.instances(memory::for_guests())
}

/// Receives, when the instance has ended, whether it failed. The failure is logged before.
type Ended = oneshot::Sender<bool>;

/// What an instance must know about a request.
pub struct Asked {
    /// Receives the outcome of the instance.
    pub ended: Ended,
    /// Id of the request, if the guest's lines must begin with it.
    pub id: Option<String>,
    /// Trace that the request is part of.
    pub trace: Option<Trace>,
    /// Whether the scheme is `https`, because a proxy may terminate TLS.
    pub is_https: bool,
    /// State shared with the response.
    pub exchange: Arc<Exchange>,
}

/// There are as many instances as allowed.
#[derive(Debug, thiserror::Error)]
#[error("as many requests as may be are being served")]
pub struct Busy;

impl Busy {
    /// Returns whether this is the reason why there is no instance.
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
    /// Takes a component whose code is loaded. Its instances run on that event loop.
    ///
    /// # Errors
    /// If the component does not have the world of the plan.
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
        let requests = requests(&plan);
        let (pre, clock) = (Arc::new(pre), Arc::new(clock));
        Ok(Guest { engine, plan, shared, pre, clock, free, requests, metrics, event_loop })
    }

    /// Returns whether there is no other instance than the one that is being made.
    fn is_alone(&self) -> bool {
        self.free.available_permits() + 1 >= at_most(&self.plan.http) as usize
    }

    /// Returns the same guest for instances on another event loop.
    pub fn on(&self, event_loop: Arc<EventLoop>) -> Guest {
        Guest { event_loop, ..self.clone() }
    }
}

impl HandlerState for Guest {
    type StoreData = State;
    type WorkerExpiration = Expiration;
    type WorkerState = Served;

    async fn instantiate(&self) -> wasmtime::Result<Instance<State, Expiration, Served>> {
        // Calls that this thread made for an earlier request are not calls of this one.
        host_calls::forget();
        let permit = self.free.clone().try_acquire_owned().map_err(|_| Busy)?;
        let reservation = Reservation { _permit: permit, _used: self.event_loop.enter()? };
        let running = self.clock.running()?;
        let mut store = State::store(&self.engine, &self.plan, &self.shared)?;
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let time = self.plan.http.request_time;
        let made = timeout(time, self.pre.instantiate_async(&mut store)).await?;
        let proxy = match made {
            Ok(proxy) => proxy,
            // There will be room when another instance ends.
            Err(_) if store.data_mut().memory().lacked_room() => return Err(Busy.into()),
            Err(error) if lacked_addresses(&error) && !self.is_alone() => {
                let reason = one_line(&error);
                LACKED_ADDRESSES.call_once(|| {
                    log(&format!("warning: requests are refused until one ends: {reason}"));
                });
                return Err(Busy.into());
            }
            Err(error) => return Err(error),
        };
        store.data_mut().memory().made();
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
        log_of_request(&report::text(&error));
    }
}

/// Permit of an instance, and use of the thread on which it runs.
pub struct Reservation {
    _permit: OwnedSemaphorePermit,
    _used: Use,
}

/// Time at which an instance ends: if it takes too long, or if it is no longer needed.
pub struct Expiration {
    /// Limit until a response begins, and for what the guest does after its responses are over. While a response is being sent
    /// there is no limit, because a stream may be long.
    time: Duration,
    /// Limit without a request.
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
            // If several are served at a time, this status means that one of them has no response in time.
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
            // Requests that are over must not count towards the shares of their connections.
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
            // Check again later.
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

/// Requests of one instance, and what it needs to serve them.
pub struct Served {
    exchanges: Exchanges,
    plan: Arc<Plan>,
    metrics: Option<Arc<Metrics>>,
    /// Senders of the requests that were begun. The last one is dropped with the instance.
    ended: Mutex<Vec<Ended>>,
    /// Number of requests in all.
    requests: usize,
    at_a_time: usize,
    reservation: Mutex<Option<Reservation>>,
    _running: Running,
}

impl Served {
    /// Drops the store of an instance. If responses of a 0.3 instance are still being sent, the last of them drops it.
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
        // With several at a time, it is not known for which one the guest continues.
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
            log_of_request(&report::text(error));
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
    use grants::{MergeInput, Requested, merge};

    use super::*;

    #[test]
    fn an_instance_of_03_serves_one_request_in_all_if_its_fuel_is_limited() {
        let plan = |world| Plan::new(world, None, vec![], &[], "/".into()).expect("a plan");
        let mut plan_03 = plan(World::HttpService03);
        assert_eq!((at_a_time(&plan(World::HttpProxy02)), at_a_time(&plan_03)), (1, AT_A_TIME_03));
        assert!(requests(&plan_03) > 1);
        let mut pod = Requested::default();
        assert!(pod.set(provided::FUEL.key, "1000").expect("is fuel"));
        plan_03.grant(merge(&MergeInput { pod, ..MergeInput::default() }).expect("merges"));
        assert_eq!((requests(&plan_03), at_a_time(&plan_03)), (1, 1));
    }
}
