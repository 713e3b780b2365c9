//! Has a guest compiled: in its turn, within bounds, logged when it takes long, and continued when the caller's time is
//! up.

use std::fs::File;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use image::Component;
use image::cache::{Cache, Turn};
use plan::World;
use sandbox::Bounds;
use tokio::time::{Instant, interval_at, sleep_until};

use crate::compilation::{Compilation, Compiled};
use crate::errors::Error;
use crate::guests;
use crate::pod::{Caller, Shared, blocking};
use crate::settings;
use crate::worker::Worker;

/// How often one that takes long is told of in the log.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is waited for at least: code that is there already is found by then.
const LEAST: Duration = Duration::from_millis(200);

/// The code of a component, as the cache has it, or as a worker makes it for the cache. Where this is dropped, the worker
/// ends.
///
/// # Errors
/// [`Error::Guest`] with the reason when it cannot run; [`Error::GivenUp`] when the caller does not wait any more;
/// [`Error::Compiling`] when it is not there at the caller's deadline. The compilation goes on then, for as long as there
/// is this Pod, and what it comes to is for the next attempt.
pub async fn code(
    shared: &Arc<Shared>,
    component: &Arc<Component>,
    caller: &Caller,
) -> Result<(World, File), Error> {
    let (since, what) = (Instant::now(), component.identity());
    let start = || begin(shared, component);
    let mut compiling = shared.abandoned.take(&what).unwrap_or_else(start);
    let time_is_up = async {
        match caller.deadline {
            Some(deadline) => sleep_until(deadline.max(since + LEAST)).await,
            None => pending().await,
        }
    };
    let names = || component.names().join(", ");
    tokio::select! {
        biased;
        code = &mut compiling => return code,
        () = caller.gone() => return Err(Error::GivenUp(names())),
        () = time_is_up => {}
    }
    let has_begun = compiling.at_work.load(Ordering::Relaxed);
    shared.abandoned.leave(what, compiling);
    Err(Error::Compiling { names: names(), seconds: since.elapsed().as_secs(), has_begun })
}

async fn find_or_compile(
    shared: Arc<Shared>,
    component: Arc<Component>,
    at_work: Arc<AtomicBool>,
) -> Compiled {
    let (cache, settings) = (Cache::new(settings::cache()?), settings::compilations()?);
    let zygote = shared.clone();
    let version = blocking(move || Ok(zygote.zygote.version()?)).await?;
    let compile = async |layers, turn| {
        at_work.store(true, Ordering::Relaxed);
        let (names, export) = (component.names(), component.export.clone());
        let preinit = component.preinit;
        run(&shared, settings.bounds, turn, move |shared, worker| {
            guests::compile(&shared.zygote, worker, names, layers, export, preinit)
        })
        .await
    };
    let code = pin!(cache.code(&component, &version, settings.allowed, compile));
    told(&component.names().join(", "), &at_work, code).await
}

/// What a component imports and exports, as a worker says.
///
/// # Errors
/// [`Error::Guest`] with the reason when it cannot be read.
pub async fn describe(shared: &Arc<Shared>, component: &Component) -> Result<String, Error> {
    let (cache, settings) = (Cache::new(settings::cache()?), settings::compilations()?);
    let turn = cache.turn(settings.allowed).await?;
    let (names, layers) = (component.names(), component.layers().await?);
    run(shared, settings.bounds, turn, move |shared, worker| {
        guests::describe(&shared.zygote, worker, names, layers)
    })
    .await
}

/// Begins it beside its caller.
fn begin(shared: &Arc<Shared>, component: &Arc<Component>) -> Compilation {
    let at_work = Arc::new(AtomicBool::new(false));
    let work = find_or_compile(shared.clone(), component.clone(), at_work.clone());
    Compilation { task: tokio::spawn(work), at_work }
}

/// Has a worker do what blocks until it is done. Where this is dropped before, the worker ends. The turn is given back
/// when it has.
async fn run<T: Send + 'static>(
    shared: &Arc<Shared>,
    bounds: Bounds,
    turn: Turn,
    work: impl FnOnce(&Shared, Worker) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (worker, leash) = Worker::new(bounds, shared.sandbox().as_deref())?;
    let shared = shared.clone();
    let done = blocking(move || {
        let done = work(&shared, worker);
        drop(turn);
        done
    })
    .await;
    drop(leash);
    done
}

/// Tells of a compilation that takes long, and of its end.
async fn told<T>(
    names: &str,
    at_work: &AtomicBool,
    mut code: impl Future<Output = Result<T, Error>> + Unpin,
) -> Result<T, Error> {
    let since = Instant::now();
    let mut turns = interval_at(since + TOLD_EVERY, TOLD_EVERY);
    loop {
        tokio::select! {
            code = &mut code => {
                if since.elapsed() >= TOLD_EVERY {
                    let end = code.as_ref().err().map_or("compiled".into(), ToString::to_string);
                    log::info!("{names}: {end}, after {} s", since.elapsed().as_secs());
                }
                return code;
            }
            _ = turns.tick() => {
                let seconds = since.elapsed().as_secs();
                match at_work.load(Ordering::Relaxed) {
                    true => log::info!("{names}: being compiled, {seconds} s after it was asked for"),
                    false => log::info!("{names}: waits for others to be compiled for {seconds} s"),
                }
            }
        }
    }
}
