//! The interfaces that guests are linked to: WASI 0.1 for modules, 0.2 and 0.3 with `wasi:http` for components.

use wasmtime::component::{Linker, Resource};
use wasmtime::{Caller, Engine, StoreContextMut};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::IoError;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::types::HostIncomingRequest;
use wasmtime_wasi_http::{Error, WasiHttpView};

use crate::http::errors;
use crate::state::{ModuleState, State};
use crate::{files, look_up};

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
    look_up::add_to_linker(&mut linker)?;
    wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
    http_types_02(&mut linker)?;
    Ok(linker)
}

/// The version of `wasi:http` 0.2 that `wasmtime-wasi-http` provides.
const HTTP_TYPES_02: &str = "wasi:http/types@0.2.12";

/// Replaces two functions of `wasi:http/types` 0.2: in `wasmtime-wasi-http`, `http-error-code` has no code for errors of
/// streams, and each incoming request has the scheme `http`.
fn http_types_02(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    let mut types = linker.instance(HTTP_TYPES_02)?;
    types.func_wrap("http-error-code", |mut store, (error,): (Resource<IoError>,)| {
        let error = store.data_mut().http().table.get(&error)?;
        let own = || error.downcast_ref::<ErrorCode>().cloned();
        Ok((error.downcast_ref::<Error>().map(errors::code).or_else(own),))
    })?;
    let scheme = |store: StoreContextMut<'_, State>, _: (Resource<HostIncomingRequest>,)| {
        Ok((Some(if store.data().is_https() { Scheme::Https } else { Scheme::Http }),))
    };
    types.func_wrap("[method]incoming-request.scheme", scheme)?;
    linker.allow_shadowing(false);
    Ok(())
}
