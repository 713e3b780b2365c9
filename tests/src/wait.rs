//! Waits until a condition holds, always with a time limit.

use std::env;
use std::sync::LazyLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Time limit for what should take milliseconds. It is long enough for a loaded machine, and short enough for a person.
pub const SOON: Duration = Duration::from_secs(20);

/// Time limit for what may compile a guest first, on two shared cores.
pub const EVENTUALLY: Duration = Duration::from_secs(90);

/// Variable with a factor for the time limits of calls and waits, for machines that are slower than a loaded one, such
/// as an emulated node.
const FACTOR: &str = "WASMTIME_SHIM_TEST_PATIENCE";

#[allow(clippy::panic, reason = "no test is run with another factor than the one asked for")]
static PATIENCE: LazyLock<u32> = LazyLock::new(|| {
    let text = env::var(FACTOR).unwrap_or_else(|_| "1".into());
    let factor = text.parse().ok().filter(|factor| *factor > 0);
    factor.unwrap_or_else(|| panic!("{FACTOR}={text:?}: allowed is a whole number from 1"))
});

/// Returns a time limit, adjusted to this machine.
pub fn patient(limit: Duration) -> Duration {
    limit * *PATIENCE
}

/// Interval between checks.
const INTERVAL: Duration = Duration::from_millis(25);

/// Calls the function until it returns a value. Fails after `limit` with the description of what was awaited.
pub fn until<T>(
    limit: Duration,
    what: &str,
    mut answer: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let (start, limit) = (Instant::now(), patient(limit));
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
