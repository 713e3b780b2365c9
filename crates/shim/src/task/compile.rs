//! Has a guest compiled: within bounds, told of when it takes long, and gone on with when the caller's time is up.

use std::fs::File;
use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use engine::World;
use image::Component;
use tokio::time::{Instant, interval_at, sleep_until};

use super::service::{Shared, blocking};
use crate::errors::Error;
use crate::{guests, settings};

/// How often one that takes long is told of in the log.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The code of a component, as the cache has it, or as a worker makes it for the cache.
///
/// # Errors
/// [`Error::Guest`] with the reason when it cannot run; [`Error::Compiling`] when it is not there at the deadline. The
/// compilation goes on then, and keeps its code for the next attempt.
pub async fn code(
    shared: &Arc<Shared>,
    id: &str,
    component: &Arc<Component>,
    deadline: Option<Instant>,
) -> Result<(World, File), Error> {
    let since = Instant::now();
    let mut compiling = tokio::spawn(find_or_compile(shared.clone(), component.clone()));
    let mut told = interval_at(since + TOLD_EVERY, TOLD_EVERY);
    let mut time_is_up = pin!(async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => pending().await,
        }
    });
    loop {
        let seconds = || since.elapsed().as_secs();
        tokio::select! {
            code = &mut compiling => {
                return code.unwrap_or_else(|panicked| Err(Error::io("compile")(panicked.into())));
            }
            () = &mut time_is_up => return Err(Error::Compiling { seconds: seconds() }),
            _ = told.tick() => {
                let names = component.names().join(", ");
                log::info!("container {id}: {names}: being compiled for {} s", seconds());
            }
        }
    }
}

async fn find_or_compile(
    shared: Arc<Shared>,
    component: Arc<Component>,
) -> Result<(World, File), Error> {
    let zygote = shared.clone();
    let version = blocking(move || Ok(zygote.zygote.version()?)).await?;
    let compile = async |layers| {
        let (shared, export) = (shared.clone(), component.export.clone());
        let (names, preinit, bounds) =
            (component.names(), component.preinit, settings::compilation()?);
        blocking(move || guests::compile(&shared.zygote, names, layers, export, preinit, bounds))
            .await
    };
    shared.cache.code(&component, &version, compile).await
}
