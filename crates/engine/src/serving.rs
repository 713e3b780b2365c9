//! The engine of guests that serve. They can be interrupted, and the memory of their instances is mapped in advance.
//!
//! A command is alone in its process, but a server makes an instance for each request. Most of that cost is memory: it
//! would be mapped, faulted in and unmapped each time, and each of these interrupts every other core. So the memory is
//! kept. If a guest has little data, `slots` keeps the memory, and the data is copied for each instance. If it has
//! more, Wasmtime's pool keeps the memory, and the data is mapped copy-on-write.

mod page_map;
mod region;
pub mod slots;

use std::sync::Arc;

use grants::CodeSettings;
use wasmparser::{Parser, Payload};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::code::Code;
use crate::link;
use crate::state::State;
use slots::{Memories, Slots, Stacks};

/// What code for this engine has that other code has not; a part of [`crate::Runtime::version`].
pub const SETTINGS: &str = "servers: epochs, little data copied";

/// So much data is copied for each instance, in bytes: of more, most is not touched.
const COPIED: usize = 512 << 10;

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

/// How the data of a guest comes to be in the memory of its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Each time.
    Copied,
    /// When it is touched.
    Mapped,
}

impl Data {
    /// What is best for a component in binary.
    pub fn of(wasm: &[u8]) -> Data {
        let payloads = Parser::new(0).parse_all(wasm).map_while(Result::ok);
        let bytes: usize = payloads
            .map(|payload| match payload {
                Payload::DataSection(section) => section.range().len(),
                _ => 0,
            })
            .sum();
        if bytes <= COPIED { Data::Copied } else { Data::Mapped }
    }
}

impl Serving {
    /// To compile.
    ///
    /// # Errors
    /// Of a machine that Wasmtime does not support.
    pub fn to_compile(data: Data, settings: &CodeSettings) -> wasmtime::Result<Serving> {
        let engine = Engine::new(&config(data, settings))?;
        let linker = link::components(&engine)?;
        Ok(Serving { engine, linker })
    }

    /// Of code whose data is copied, with memory from these.
    ///
    /// # Errors
    /// Of other code.
    pub fn in_slots(
        slots: &Arc<Slots>,
        code: &Code,
        settings: &CodeSettings,
    ) -> wasmtime::Result<(Serving, Component)> {
        let mut config = config(Data::Copied, settings);
        config
            .with_host_memory(Arc::new(Memories(slots.clone())))
            .with_host_stack(Arc::new(Stacks(slots.clone())));
        Serving::load(&config, code)
    }

    /// Of code whose data is mapped, with room for so many instances at a time.
    ///
    /// # Errors
    /// Of other code. Where the address space has no room: a slot reserves 4 GiB of it.
    pub fn pooled(
        instances: u32,
        code: &Code,
        settings: &CodeSettings,
    ) -> wasmtime::Result<(Serving, Component)> {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(instances)
            .total_core_instances(instances.saturating_mul(CORE_INSTANCES))
            .total_memories(instances.saturating_mul(MEMORIES))
            .total_tables(instances.saturating_mul(TABLES))
            .total_stacks(instances)
            .table_elements(TABLE_ELEMENTS)
            .max_component_instance_size(METADATA)
            .max_core_instance_size(METADATA);
        let mut config = config(Data::Mapped, settings);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        Serving::load(&config, code)
    }

    /// The same with each instance allocated for itself.
    ///
    /// # Errors
    /// Of other code.
    pub fn on_demand(
        code: &Code,
        settings: &CodeSettings,
    ) -> wasmtime::Result<(Serving, Component)> {
        Serving::load(&config(Data::Mapped, settings), code)
    }

    fn load(config: &Config, code: &Code) -> wasmtime::Result<(Serving, Component)> {
        let engine = Engine::new(config)?;
        let component = code.component(&engine)?;
        let linker = link::components(&engine)?;
        Ok((Serving { engine, linker }, component))
    }
}

fn config(data: Data, settings: &CodeSettings) -> Config {
    let mut config = crate::config(settings);
    // A guest in a loop must not keep others from being served, nor outlast its request.
    config.epoch_interruption(true).memory_init_cow(data == Data::Mapped);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_what_all_modules_of_a_component_have() {
        let component = |bytes: usize| {
            let module = format!(
                r#"(core module (memory 64) (data (i32.const 0) "{}"))"#,
                "x".repeat(bytes)
            );
            wat::parse_str(format!("(component {module} (component {module}))")).expect("parses")
        };
        assert_eq!(Data::of(&component(1000)), Data::Copied);
        assert_eq!(Data::of(&component(COPIED / 2)), Data::Mapped);
    }
}
