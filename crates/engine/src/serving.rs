//! The engine of guests that serve: they can be interrupted, and their instances come from a pool.
//!
//! A command is alone in its process; a server makes an instance for each request. What that costs is mostly memory
//! that is mapped, faulted in and unmapped, and each time every other core is interrupted. In a pool a slot stays
//! mapped, and what was written in it is given back. Nothing of it is kept and overwritten instead: Wasmtime's scan for the
//! pages that were written (`PAGEMAP_SCAN`) passes over those that the kernel is moving, and to overwrite all of them takes
//! longer than to fault them in.
//!
//! Compiled code is the same with and without a pool: whether there is one is found out where the guest runs.

use wasmtime::component::Linker;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::link;
use crate::state::State;

/// What code for this engine has that other code has not; a part of [`crate::Runtime::version`].
pub const SETTINGS: &str = "servers: epochs";

/// What one instance needs: a component is made of core instances, with what adapts them to each other. Of a
/// composition, whose instances need more, there is room for fewer.
const CORE_INSTANCES: u32 = 24;
const MEMORIES: u32 = 2;
const TABLES: u32 = 3;

/// As many functions may a table hold; those of an interpreter are some ten thousand.
const TABLE_ELEMENTS: usize = 1 << 17;

/// What is known of an instance beside its memories and tables, in bytes.
const METADATA: usize = 16 << 20;

/// Engine and linker of servers.
pub struct Serving {
    /// Of the settings that the code was compiled with.
    pub engine: Engine,
    /// WASI 0.2 and 0.3.
    pub linker: Linker<State>,
}

impl Serving {
    /// Each instance allocated for itself: to compile, and where there is no room for a pool.
    ///
    /// # Errors
    /// Of a machine that Wasmtime does not support.
    pub fn on_demand() -> wasmtime::Result<Serving> {
        Serving::new(&config())
    }

    /// With room for so many instances at a time.
    ///
    /// # Errors
    /// Where the address space has not: a slot reserves 4 GiB of it.
    pub fn pooled(instances: u32) -> wasmtime::Result<Serving> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
            .total_memories(instances.saturating_mul(MEMORIES))
            .total_tables(instances.saturating_mul(TABLES))
            .total_stacks(instances)
            .table_elements(TABLE_ELEMENTS)
            .max_component_instance_size(METADATA)
            .max_core_instance_size(METADATA);
        let mut config = config();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        Serving::new(&config)
    }

    fn new(config: &Config) -> wasmtime::Result<Serving> {
        let engine = Engine::new(config)?;
        let linker = link::components(&engine)?;
        Ok(Serving { engine, linker })
    }
}

fn config() -> Config {
    let mut config = crate::config();
    // A guest in a loop must not keep others from being served, nor outlast its request.
    config.epoch_interruption(true);
    config
}
