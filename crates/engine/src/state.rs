//! What WASI offers a guest, from its plan: the container's own file tree, network and streams.
//!
//! The process is already confined: what is read-only, another user's or out of reach is so by the kernel.

use wasmtime::component::ResourceTable;
use wasmtime::error::Context;
use wasmtime::{Engine, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::memory::Memory;
use crate::stderr::Stderr;
use crate::{Plan, World};

/// The data of a component's store.
pub struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    memory: Memory,
}

/// The data of a core module's store.
pub struct ModuleState {
    /// WASI 0.1.
    pub wasi: WasiP1Ctx,
    memory: Memory,
}

impl State {
    /// For one instance.
    fn new(plan: &Plan) -> wasmtime::Result<State> {
        let wasi = builder(plan)?.build();
        let (http, table) = (WasiHttpCtx::new(), ResourceTable::new());
        Ok(State { wasi, http, table, memory: Memory::default() })
    }

    /// A store for one instance, within the container's memory.
    pub fn store(engine: &Engine, plan: &Plan) -> wasmtime::Result<Store<State>> {
        let mut store = Store::new(engine, State::new(plan)?);
        store.limiter(|state| &mut state.memory);
        Ok(store)
    }
}

impl ModuleState {
    /// The same for a core module.
    pub fn store(engine: &Engine, plan: &Plan) -> wasmtime::Result<Store<ModuleState>> {
        let wasi = builder(plan)?.build_p1();
        let mut store = Store::new(engine, ModuleState { wasi, memory: Memory::default() });
        store.limiter(|state| &mut state.memory);
        Ok(store)
    }
}

/// One preopen: with a second one for the working directory, wasi-libc would look there for absolute paths,
/// since it takes `/` and `.` for the same prefix and the last of them.
fn builder(plan: &Plan) -> wasmtime::Result<WasiCtxBuilder> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .args(&plan.args)
        .envs(&plan.env)
        .inherit_stdin()
        .inherit_stdout()
        .stderr(Stderr)
        .inherit_network()
        .allow_tcp(true)
        .allow_udp(true)
        .allow_ip_name_lookup(true)
        .initial_cwd(plan.cwd.to_string_lossy())
        .allow_blocking_current_thread(is_sequential(plan.world))
        .preopened_dir("/", "/", FsPerms::ReadWrite)
        .context("open the container's root directory")?;
    Ok(builder)
}

/// Whether a guest waits for each of its calls: files are then read and written on its own thread, which spares
/// another one and two switches per call. A guest of 0.3 may have other work meanwhile.
fn is_sequential(world: World) -> bool {
    matches!(world, World::Module | World::Command02)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: Default::default() }
    }
}
