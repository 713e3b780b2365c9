//! The interfaces guests are linked to: WASI 0.1 for modules, 0.2 and 0.3 with `wasi:http` for components.

use wasmtime::component::Linker;
use wasmtime::{Caller, Engine};
use wasmtime_wasi::I32Exit;

use crate::files;
use crate::state::{ModuleState, State};

/// WASI 0.1.
pub fn modules(engine: &Engine) -> wasmtime::Result<wasmtime::Linker<ModuleState>> {
    let mut linker = wasmtime::Linker::new(engine);
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |state: &mut ModuleState| &mut state.wasi)?;
    linker.allow_shadowing(true);
    files::wrap_module_functions(&mut linker)?;
    // Wasmtime's own refuses codes of 126 and more; a container's exit code is the guest's.
    let exit = |_: Caller<'_, ModuleState>, code: i32| -> wasmtime::Result<()> {
        Err(I32Exit(code).into())
    };
    linker.func_wrap("wasi_snapshot_preview1", "proc_exit", exit)?;
    Ok(linker)
}

/// WASI 0.2 and 0.3, each with `wasi:http`: a component may import from both.
pub fn components(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    files::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    Ok(linker)
}
