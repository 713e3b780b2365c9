//! What the node's administrator sets: variables of containerd's environment, which the shim has from it.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use engine::quantity;
use sandbox::Bounds;

use crate::errors::Error;

/// Where code is kept that containerd's content store does not take.
const CACHE: &str = "WASMTIME_SHIM_CACHE";

/// Where that is without the variable.
const DEFAULT_CACHE: &str = "/var/lib/wasmtime-shim/cache";

/// How long a compilation may take.
pub const COMPILE_TIME: &str = "WASMTIME_SHIM_COMPILE_TIME";

/// How much memory a compilation may take.
pub const COMPILE_MEMORY: &str = "WASMTIME_SHIM_COMPILE_MEMORY";

/// The directory of the cache.
pub fn cache() -> PathBuf {
    env::var_os(CACHE).map_or_else(|| DEFAULT_CACHE.into(), PathBuf::from)
}

/// What a compilation may use.
///
/// # Errors
/// [`Error::Setting`] for a variable with a value that it cannot have.
pub fn compilation() -> Result<Bounds, Error> {
    let Bounds { time, memory } = Bounds::default();
    let set_time = setting(COMPILE_TIME, quantity::duration, quantity::DURATION)?;
    let some = |text: &str| quantity::size(text).filter(|size| *size > 0);
    let set_memory = setting(COMPILE_MEMORY, some, quantity::SIZE)?;
    // The kernel counts it in seconds (setrlimit(2), alarm(2)).
    let time =
        set_time.map_or(time, |set| Duration::from_secs(set.as_millis().div_ceil(1000) as u64));
    Ok(Bounds { time, memory: set_memory.unwrap_or(memory) })
}

fn setting<T>(
    key: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
    expected: &'static str,
) -> Result<Option<T>, Error> {
    let Some(value) = env::var_os(key) else { return Ok(None) };
    let value = value.to_string_lossy().into_owned();
    let parsed = parse(&value);
    parsed.map(Some).ok_or(Error::Setting { key, value, expected })
}
