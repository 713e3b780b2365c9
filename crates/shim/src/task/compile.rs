//! Has a guest compiled: within bounds, told of when it takes long, and gone on with when the caller's time is up.

use std::collections::HashMap;
use std::fs::File;
use std::future::pending;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::World;
use image::Component;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, sleep_until};

use super::service::{Shared, blocking};
use crate::errors::Error;
use crate::guests;

/// How often one that takes long is told of in the log.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What is waited for at least: code that is there already is found by then.
const LEAST: Duration = Duration::from_millis(200);

/// Compilations that nobody waits for any more, by what is compiled. What one has come to is for the next who asks.
#[derive(Default)]
pub struct Abandoned(Mutex<HashMap<String, Compilation>>);

type Compilation = JoinHandle<Result<(World, File), Error>>;

impl Abandoned {
    fn take(&self, what: &str) -> Option<Compilation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(what)
    }

    /// Of two of the same, one compiles and the other waits for it: the first is enough.
    fn leave(&self, what: String, compilation: Compilation) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(what).or_insert(compilation);
    }
}

/// The code of a component, as the cache has it, or as a worker makes it for the cache.
///
/// # Errors
/// [`Error::Guest`] with the reason when it cannot run; [`Error::Compiling`] when it is not there at the deadline. The
/// compilation goes on then, for as long as there is this Pod, and what it comes to is for the next attempt.
pub async fn code(
    shared: &Arc<Shared>,
    component: &Arc<Component>,
    deadline: Option<Instant>,
) -> Result<(World, File), Error> {
    let (since, what) = (Instant::now(), component.identity());
    let start = || tokio::spawn(find_or_compile(shared.clone(), component.clone()));
    let mut compiling = shared.abandoned.take(&what).unwrap_or_else(start);
    let time_is_up = async {
        match deadline {
            Some(deadline) => sleep_until(deadline.max(since + LEAST)).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        code = &mut compiling => {
            return code.unwrap_or_else(|panicked| Err(Error::io("compile")(panicked.into())));
        }
        () = time_is_up => {}
    }
    shared.abandoned.leave(what, compiling);
    let (names, seconds) = (component.names().join(", "), since.elapsed().as_secs());
    Err(Error::Compiling { names, seconds })
}

async fn find_or_compile(
    shared: Arc<Shared>,
    component: Arc<Component>,
) -> Result<(World, File), Error> {
    let zygote = shared.clone();
    let version = blocking(move || Ok(zygote.zygote.version()?)).await?;
    let compile = async |layers| {
        let (shared, export) = (shared.clone(), component.export.clone());
        let (names, preinit) = (component.names(), component.preinit);
        blocking(move || guests::compile(&shared.zygote, names, layers, export, preinit)).await
    };
    let code = pin!(shared.cache.code(&component, &version, compile));
    told(&component.names().join(", "), code).await
}

/// Tells of a compilation that takes long, and of its end.
async fn told<T>(
    names: &str,
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
                log::info!("{names}: being compiled for {} s", since.elapsed().as_secs());
            }
        }
    }
}
