//! What WASI offers a guest, from its plan: the container's own file tree, network and streams.
//!
//! The process is already confined. The kernel enforces what is read-only, belongs to another user or is out of reach.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::error::Context;
use wasmtime::{Engine, Store};
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};
use wasmtime_wasi_tls::{WasiTlsCtx, WasiTlsCtxView, WasiTlsView};

use crate::files::{self, Directories};
use crate::guard::Guard;
use crate::http::outgoing::{Hooks, Outgoing};
use crate::http::tracing::Trace;
use crate::interfaces::{Interfaces, tls};
use crate::look_up::{self, Names};
use crate::memory::Memory;
use crate::output::{LinePrefixer, Output};
use crate::{Plan, World, log_rate};

/// What all instances of a process have together.
pub struct Shared {
    /// What sends their requests.
    pub outgoing: Arc<Outgoing>,
    /// Their configuration and their key-value store.
    pub interfaces: Arc<Interfaces>,
    /// What compares their calls with the grants.
    pub guard: Arc<Guard>,
    /// The directories that are granted, instead of the container's root.
    pub directories: Option<Arc<Directories>>,
}

/// The data of a component's store.
pub struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    /// Dropped before the table: by then it is known that the bodies in it break off.
    hooks: Hooks,
    table: ResourceTable,
    memory: Memory,
    prefixer: Option<LinePrefixer>,
    interfaces: Arc<Interfaces>,
    sequential: bool,
    guard: Arc<Guard>,
    directories: Option<Arc<Directories>>,
    names: Names,
    /// From the first connection over TLS: most guests make none.
    tls: Option<WasiTlsCtx>,
}

/// The data of a core module's store.
pub struct ModuleState {
    /// WASI 0.1.
    pub wasi: WasiP1Ctx,
    /// Its memory.
    pub memory: Memory,
    /// If only some directories are granted, what reports a path that leads out of them.
    pub granted: Option<Arc<Guard>>,
}

impl State {
    /// For one instance.
    fn new(plan: &Plan, shared: &Shared) -> wasmtime::Result<State> {
        let prefixer = plan.http.keeps_lines_apart().then(LinePrefixer::new);
        let mut builder = builder(plan, &shared.guard);
        if shared.directories.is_none() {
            preopen_root(&mut builder)?;
        }
        if let Some(prefixer) = &prefixer {
            builder.stdout(Output::stdout(Some(prefixer.clone())));
            builder.stderr(Output::stderr(Some(prefixer.clone())));
        }
        let wasi = builder.build();
        let (http, table) = (WasiHttpCtx::new(), ResourceTable::new());
        let hooks = Hooks::new(shared.outgoing.clone());
        let (memory, sequential) = (Memory::default(), is_sequential(plan.world));
        let interfaces = shared.interfaces.clone();
        let (guard, directories) = (shared.guard.clone(), shared.directories.clone());
        let names = Names::default();
        Ok(State {
            wasi,
            http,
            hooks,
            table,
            memory,
            prefixer,
            interfaces,
            sequential,
            guard,
            directories,
            names,
            tls: None,
        })
    }

    /// Its files, as the functions of `wasi:filesystem` need them.
    pub fn files(&mut self) -> files::View<'_> {
        let State { wasi, table, directories, guard, sequential, .. } = self;
        files::View {
            wasi: WasiFilesystemCtxView { ctx: wasi.filesystem(), table },
            sequential: *sequential,
            granted: directories.as_deref().map(|directories| (directories, &*guard)),
        }
    }

    /// Its look-ups of names, as the functions of `wasi:sockets/ip-name-lookup` need them.
    pub fn look_up(&mut self) -> look_up::View<'_> {
        let State { wasi, table, guard, names, .. } = self;
        let sockets = WasiSocketsCtxView { ctx: wasi.sockets(), table };
        look_up::View { sockets, guard, names }
    }

    /// Goes on with another request: what the guest writes, and sends, from here on is of that one.
    pub fn begin(&mut self, request_id: Option<String>, trace: Option<Trace>, is_https: bool) {
        self.hooks.trace = trace;
        self.hooks.is_https = is_https;
        if let (Some(prefixer), Some(id)) = (&self.prefixer, request_id) {
            prefixer.set_id(id);
        }
    }

    /// Its memory.
    pub fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// Whether the scheme of the current request is `https`.
    pub fn is_https(&self) -> bool {
        self.hooks.is_https
    }

    /// Its configuration and its key-value store.
    pub fn interfaces(&self) -> &Arc<Interfaces> {
        &self.interfaces
    }

    /// The resources of its guest.
    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Whether its guest waits for each of its calls, and nothing else does.
    pub fn is_sequential(&self) -> bool {
        self.sequential
    }

    /// The id of the current request where lines have it, or nothing.
    pub fn request_id(&self) -> String {
        self.prefixer.as_ref().map(LinePrefixer::id).unwrap_or_default()
    }

    /// A store for one instance, within the container's memory, which shares what there is to share with all others.
    pub fn store(engine: &Engine, plan: &Plan, shared: &Shared) -> wasmtime::Result<Store<State>> {
        let mut store = Store::new(engine, State::new(plan, shared)?);
        store.limiter(|state| &mut state.memory);
        fuel(&mut store, plan)?;
        Ok(store)
    }
}

/// Aborts the bodies of requests and responses that a guest of 0.2 has not finished. If they were only dropped with the table,
/// they would look finished (`wasi:http/types`, `outgoing-body`).
impl Drop for State {
    fn drop(&mut self) {
        for entry in self.table.iter_mut() {
            if let Some(body) = entry.downcast_mut::<HostOutgoingBody>() {
                let (finished, _) = HostOutgoingBody::new(StreamContext::Response, None, 1, 1);
                std::mem::replace(body, finished).abort();
            }
        }
    }
}

impl ModuleState {
    /// The same for a core module.
    pub fn store(
        engine: &Engine,
        plan: &Plan,
        shared: &Shared,
    ) -> wasmtime::Result<Store<ModuleState>> {
        let mut builder = builder(plan, &shared.guard);
        match &shared.directories {
            None => preopen_root(&mut builder)?,
            Some(directories) => files::preopen(directories, &mut builder)?,
        }
        let granted = shared.directories.as_ref().map(|_| shared.guard.clone());
        let (wasi, memory) = (builder.build_p1(), Memory::default());
        let mut store = Store::new(engine, ModuleState { wasi, memory, granted });
        store.limiter(|state| &mut state.memory);
        fuel(&mut store, plan)?;
        Ok(store)
    }
}

/// Gives the guest its fuel, if that is limited.
fn fuel<T>(store: &mut Store<T>, plan: &Plan) -> wasmtime::Result<()> {
    plan.grants.code.fuel().map_or(Ok(()), |units| store.set_fuel(units))
}

/// One preopen: with a second one for the working directory, wasi-libc would look there for absolute paths,
/// since it takes `/` and `.` for the same prefix and the last of them.
fn preopen_root(builder: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
    let opened = builder.preopened_dir("/", "/", FsPerms::ReadWrite);
    opened.map(drop).context("open the container's root directory")
}

fn builder(plan: &Plan, guard: &Arc<Guard>) -> WasiCtxBuilder {
    let mut builder = WasiCtxBuilder::new();
    builder
        .args(&plan.args)
        .envs(&plan.env)
        .inherit_stdin()
        .inherit_stdout()
        .stderr(Output::stderr(None))
        .initial_cwd(plan.cwd.to_string_lossy())
        .allow_blocking_current_thread(is_sequential(plan.world));
    if log_rate::get().is_some() {
        builder.stdout(Output::stdout(None));
    }
    guard.allow(&mut builder);
    builder
}

/// Whether a guest waits for each of its calls: files are then read and written on its own thread, which spares
/// another one and two switches per call. A guest of 0.3 may have other work to do while a call waits.
pub fn is_sequential(world: World) -> bool {
    matches!(world, World::Module | World::Command02)
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let State { http, hooks, table, .. } = self;
        WasiHttpCtxView { ctx: http, table, hooks }
    }
}

impl WasiTlsView for State {
    fn tls(&mut self) -> WasiTlsCtxView<'_> {
        let State { tls, hooks, table, .. } = self;
        let ctx = tls.get_or_insert_with(|| tls::context(hooks.outgoing().clone()));
        WasiTlsCtxView { ctx, table }
    }
}
