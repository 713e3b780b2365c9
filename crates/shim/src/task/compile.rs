//! Compilation of guests. Each compilation waits until the node may run one more, and has limits. If it takes long, it
//! is logged. If the caller's time is up, it continues.

use std::fs::File;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use grants::CodeSettings;
use image::Component;
use image::cache::{Cache, CompileSlot};
use sandbox::Bounds;
use tokio::time::{Instant, interval_at, sleep_until};

use crate::compilation::{Compilation, Compiled};
use crate::errors::Error;
use crate::guests::{self, About, Compile};
use crate::pod::{Caller, Shared, blocking};
use crate::settings;
use crate::worker::Worker;

/// How often a compilation that takes long is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Least time to wait, in which code that already exists is found.
const LEAST: Duration = Duration::from_millis(200);

/// Code of a component that is made like this, from the cache, or from a worker that makes it for the cache. If the future
/// is dropped, the worker ends.
///
/// # Errors
/// [`Error::Guest`] with the reason if the component cannot run; [`Error::GivenUp`] if the caller does not wait any more;
/// [`Error::Compiling`] if the code is not ready at the caller's deadline. The compilation then continues as long as this Pod
/// exists, and the next attempt will use its result.
pub async fn code(
    shared: &Arc<Shared>,
    component: &Arc<Component>,
    code: &CodeSettings,
    caller: &Caller,
) -> Result<(About, File), Error> {
    let (since, identity) = (Instant::now(), component.identity());
    let start = || begin(shared, component, code.clone());
    let mut compiling = shared.abandoned.take(&identity).unwrap_or_else(start);
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
    shared.abandoned.leave(identity, compiling);
    Err(Error::Compiling { names: names(), seconds: since.elapsed().as_secs(), has_begun })
}

async fn find_or_compile(
    shared: Arc<Shared>,
    component: Arc<Component>,
    code: CodeSettings,
    at_work: Arc<AtomicBool>,
) -> Compiled {
    let (cache, settings) = (Cache::new(settings::cache()?), settings::compilations()?);
    let zygote = shared.clone();
    let version = blocking(move || Ok(zygote.zygote.version()?)).await?;
    let compile = async |layers, slot| {
        at_work.store(true, Ordering::Relaxed);
        let (names, export) = (component.names(), component.export.clone());
        let how = Compile { names, export, preinit: component.preinit, code };
        run(&shared, settings.bounds, slot, move |shared, worker| {
            guests::compile(&shared.zygote, worker, how, layers)
        })
        .await
    };
    let code = pin!(cache.code(&component, &version, settings.allowed, compile));
    logged(&component.names().join(", "), &at_work, code).await
}

/// Describes the imports and exports of a component, by a worker.
///
/// # Errors
/// [`Error::Guest`] with the reason if the component cannot be read.
pub async fn describe(
    shared: &Arc<Shared>,
    component: &Component,
    code: CodeSettings,
) -> Result<String, Error> {
    let (cache, settings) = (Cache::new(settings::cache()?), settings::compilations()?);
    let slot = cache.compile_slot(settings.allowed).await?;
    let (names, layers) = (component.names(), component.layers().await?);
    run(shared, settings.bounds, slot, move |shared, worker| {
        guests::describe(&shared.zygote, worker, names, code, layers)
    })
    .await
}

/// Begins a compilation in a task of its own.
fn begin(shared: &Arc<Shared>, component: &Arc<Component>, code: CodeSettings) -> Compilation {
    let at_work = Arc::new(AtomicBool::new(false));
    let work = find_or_compile(shared.clone(), component.clone(), code, at_work.clone());
    Compilation { task: tokio::spawn(work), at_work }
}

/// Runs blocking work with a worker. If the future is dropped, the worker ends. The compile slot is released when
/// the worker has ended.
async fn run<T: Send + 'static>(
    shared: &Arc<Shared>,
    bounds: Bounds,
    slot: CompileSlot,
    work: impl FnOnce(&Shared, Worker) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (worker, leash) = Worker::new(bounds, shared.sandbox().as_deref())?;
    let shared = shared.clone();
    let done = blocking(move || {
        let done = work(&shared, worker);
        drop(slot);
        done
    })
    .await;
    drop(leash);
    done
}

/// Logs a compilation that takes long, and its end.
async fn logged<T>(
    names: &str,
    at_work: &AtomicBool,
    mut code: impl Future<Output = Result<T, Error>> + Unpin,
) -> Result<T, Error> {
    let since = Instant::now();
    let mut turns = interval_at(since + LOG_INTERVAL, LOG_INTERVAL);
    loop {
        tokio::select! {
            code = &mut code => {
                if since.elapsed() >= LOG_INTERVAL {
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
