//! Runs a core module of WASI 0.1.

use anyhow::{Context, Result};
use wasmtime::{Engine, Linker, Module, Store};
use wasmtime_wasi::p1::{WasiP1Ctx, add_to_linker_async};

/// Runs an export to its end.
pub async fn run(engine: &Engine, module: &Module, export: &str, wasi: WasiP1Ctx) -> Result<()> {
    let mut linker = Linker::new(engine);
    add_to_linker_async(&mut linker, |wasi: &mut WasiP1Ctx| wasi)?;
    let mut store = Store::new(engine, wasi);
    let instance = linker.instantiate_async(&mut store, module).await?;
    let entry = instance.get_func(&mut store, export);
    let entry = entry.with_context(|| format!("the module has no export {export}"))?;
    Ok(entry.call_async(&mut store, &[], &mut []).await?)
}
