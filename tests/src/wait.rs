//! Waiting for something to become true, always with an end.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// For what should take milliseconds: long enough for a loaded machine, short enough for a person.
pub const SOON: Duration = Duration::from_secs(20);

/// For what may compile a guest first, on two cores that are shared.
pub const EVENTUALLY: Duration = Duration::from_secs(90);

/// How often is looked.
const INTERVAL: Duration = Duration::from_millis(25);

/// Asks until there is an answer; after `limit` fails with what was waited for.
pub fn until<T>(
    limit: Duration,
    what: &str,
    mut answer: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = answer()? {
            return Ok(answer);
        }
        if start.elapsed() > limit {
            bail!("waited {} s for {what}", limit.as_secs());
        }
        sleep(INTERVAL);
    }
}
