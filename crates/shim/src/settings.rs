//! Settings of the node's administrator: variables of containerd's environment, which the shim inherits.

use std::env;
use std::path::PathBuf;
use std::thread;

use grants::quantity;
use image::cache::Allowed;
use nix::sys::sysinfo::sysinfo;
use provided::{Place, Setting, SettingError};
use sandbox::Bounds;

/// Variable with the time that a compilation may take.
pub const COMPILE_TIME: &str = provided::COMPILE_TIME.key;

/// Variable with the memory that a compilation may use.
pub const COMPILE_MEMORY: &str = provided::COMPILE_MEMORY.key;

/// Default directory of code that is not kept in containerd's content store.
const DEFAULT_CACHE: &str = "/var/lib/wasmtime-shim/cache";

/// Lowest memory limit of a compilation, as in the text of [`provided::COMPILE_MEMORY`].
const LEAST_MEMORY: u64 = 256 << 20;

/// Limits of compilations.
#[derive(Debug, Clone, Copy)]
pub struct Compilations {
    /// Limits of one compilation.
    pub bounds: Bounds,
    /// Number of compilations on the node at a time.
    pub allowed: Allowed,
}

/// Directory of the cache.
///
/// # Errors
/// If the path is not absolute.
pub fn cache() -> Result<PathBuf, SettingError> {
    Ok(setting(&provided::CACHE, absolute)?.unwrap_or_else(|| DEFAULT_CACHE.into()))
}

/// The node's file, if a variable names one.
///
/// # Errors
/// If the path is not absolute.
pub fn node_config() -> Result<Option<PathBuf>, SettingError> {
    setting(&provided::NODE_CONFIG, absolute)
}

fn absolute(text: &str) -> Option<PathBuf> {
    Some(PathBuf::from(text)).filter(|path| path.is_absolute())
}

/// Limits of compilations.
///
/// # Errors
/// If a variable has an invalid value.
pub fn compilations() -> Result<Compilations, SettingError> {
    let Bounds { time, memory } = Bounds::default();
    let enough = |text: &str| quantity::size(text).filter(|size| *size >= LEAST_MEMORY);
    let time = setting(&provided::COMPILE_TIME, quantity::duration)?.unwrap_or(time);
    let memory = setting(&provided::COMPILE_MEMORY, enough)?.unwrap_or(memory);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let node = sysinfo().map_or(0, |node| node.ram_total());
    let allowed = Allowed { at_a_time: at_a_time(processors, node, memory), time };
    Ok(Compilations { bounds: Bounds { time, memory }, allowed })
}

/// Number of compilations at a time: one for each processor, as far as the node's memory allows, and at least one.
fn at_a_time(processors: usize, node: u64, memory: u64) -> u32 {
    let room = usize::try_from(node / memory).unwrap_or(usize::MAX);
    u32::try_from(processors.min(room).max(1)).unwrap_or(u32::MAX)
}

fn setting<T>(
    setting: &Setting,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, SettingError> {
    let Some(value) = env::var_os(setting.key) else { return Ok(None) };
    let value = value.to_string_lossy();
    let parsed = parse(&value);
    parsed.map(Some).ok_or_else(|| setting.refused(Place::Node, &value))
}

#[cfg(test)]
mod tests {
    use provided::Unset;

    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn as_many_compile_at_a_time_as_there_are_processors_and_memory_for() {
        assert_eq!(at_a_time(4, 64 * GIB, 4 * GIB), 4);
        assert_eq!(at_a_time(64, 64 * GIB, 4 * GIB), 16);
        assert_eq!(at_a_time(4, 8 * GIB - 1, 4 * GIB), 1);
        assert_eq!(at_a_time(4, GIB, 4 * GIB), 1);
        assert_eq!(at_a_time(4, 0, 4 * GIB), 1);
    }

    #[test]
    fn the_default_that_the_table_says_is_the_default() {
        let value = |setting: Setting| match setting.unset {
            Unset::Is(value) => value,
            Unset::Means(text) => panic!("{text} is no value"),
        };
        let Bounds { time, memory } = Bounds::default();
        assert_eq!(quantity::duration(value(provided::COMPILE_TIME)), Some(time));
        assert_eq!(quantity::size(value(provided::COMPILE_MEMORY)), Some(memory));
        assert_eq!(value(provided::CACHE), DEFAULT_CACHE);
    }
}
