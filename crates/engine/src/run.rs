//! Loads a plan's guest in the isolated process, and runs it when the container is started.

use std::io::Write;
use std::sync::Arc;

use wasmtime::component::{InstancePre, Val};
use wasmtime::error::Context;
use wasmtime::{AsContextMut, Instance, Store};
use wasmtime_wasi::p2::bindings::CommandPre as Command02;
use wasmtime_wasi::p3::bindings::CommandPre as Command03;

use crate::code::{self, Code};
use crate::guard::Guard;
use crate::http::event_loop;
use crate::http::outgoing::Outgoing;
use crate::http::roots::{self, Roots};
use crate::interfaces::{self, Interfaces};
use crate::profile::Profiled;
use crate::report::{self, log, trapped};
use crate::state::{ModuleState, Shared, State, is_sequential};
use crate::time_limit::TimeLimit;
use crate::world::{INITIALIZE, START};
use crate::{
    Error, Given, Plan, Runtime, World, artifacts, files, host_calls, http, log_rate, memory,
    numbers, signals, stderr, time_limit, wave, world,
};

/// A command whose `run` returned an error.
const RUN_FAILED: u8 = 1;

/// The end of a start, in its trace.
const FIRST_INSTRUCTION: &str = "first guest instruction";

/// A guest that can be run, or the reason why it cannot.
pub struct Loaded {
    plan: Plan,
    parts: wasmtime::Result<Parts>,
}

/// A guest, and where its profile is asked for.
struct Parts {
    guest: Guest,
    /// The first event loop. It is made here because tokio makes a pair of sockets for it, which the process may not do later.
    tokio: tokio::runtime::Runtime,
    profiled: Option<Profiled>,
}

enum Guest {
    Server(Box<http::Loaded>, Arc<Shared>),
    Once(Once),
}

/// A guest that runs once, linked to what it imports.
enum Once {
    Module(wasmtime::InstancePre<ModuleState>, Store<ModuleState>),
    Command02(Command02<State>, Store<State>),
    Command03(Command03<State>, Store<State>),
    Export(InstancePre<State>, Store<State>),
}

impl Runtime {
    /// Loads the guest: all that can be done before its container is started. Starts no thread. What goes wrong is reported by
    /// [`Loaded::run`].
    pub fn load(&self, plan: Plan, given: Given) -> Loaded {
        let _span = trace::span("map and load the code");
        let parts = self.parts(&plan, given);
        Loaded { plan, parts }
    }

    fn parts(&self, plan: &Plan, given: Given) -> wasmtime::Result<Parts> {
        memory::grant(&plan.grants.limits.memory);
        log_rate::grant(&plan.grants.limits.log_rate);
        report::grant_fuel(&plan.grants.code.fuel);
        let code = Code::map(&given.code).context("map the compiled code")?;
        let roots = Arc::new(Roots::new(plan.variable(roots::VARIABLE), given.roots));
        let guard = Arc::new(Guard::new(plan.grants.clone()));
        let directories = files::open_granted(&plan.grants, is_sequential(plan.world))?;
        let shared = Arc::new(Shared {
            outgoing: Arc::new(Outgoing::new(roots.clone(), guard.clone(), &plan.grants)),
            interfaces: Arc::new(Interfaces::new(plan, &roots)),
            guard,
            directories: directories.map(Arc::new),
        });
        // One guest, one thread: it blocks in its own calls.
        let tokio = event_loop::runtime().context("start the event loop")?;
        let (guest, code) = if plan.world.serves_http() {
            let server = http::Loaded::new(plan, &code, given.page_map)?;
            let component = code::Guest::Component(server.component.clone());
            (Guest::Server(Box::new(server), shared), component)
        } else {
            let own = (!plan.grants.code.runs_as_usual()).then(|| Runtime::of(&plan.grants.code));
            let own = own.transpose().context("start Wasmtime")?;
            let runtime = own.as_ref().unwrap_or(self);
            let code = code.load(&runtime.engine, plan.world)?;
            (Guest::Once(runtime.link(plan, &code, &shared)?), code)
        };
        let profiled = given.profiles.map(|listener| Profiled::new(plan.name(), &code, listener));
        Ok(Parts { guest, tokio, profiled })
    }

    fn link(&self, plan: &Plan, code: &code::Guest, shared: &Shared) -> wasmtime::Result<Once> {
        let component = match code {
            code::Guest::Module(module) => {
                let module = self.modules.instantiate_pre(module)?;
                return Ok(Once::Module(module, ModuleState::store(&self.engine, plan, shared)?));
            }
            code::Guest::Component(component) => component,
        };
        let linked =
            interfaces::imported(&self.components, component)?.instantiate_pre(component)?;
        let store = State::store(&self.engine, plan, shared)?;
        Ok(match plan.world {
            World::Command02 => Once::Command02(Command02::new(linked)?, store),
            World::Command03 => Once::Command03(Command03::new(linked)?, store),
            _ => Once::Export(linked, store),
        })
    }
}

impl Loaded {
    /// Runs the guest, and blocks until it is done. Whatever goes wrong is reported on stderr.
    ///
    /// To be called in a process without other threads, which ends with the code that is returned: the guest's
    /// own, or one of [`plan::exit_code`]. [`crate::ending_signals`] end it sooner. `idle` is called when a server
    /// waits for its first request: what it took to load the guest is not needed any more.
    pub fn run(self, idle: fn()) -> u8 {
        let Loaded { plan, parts } = self;
        let result = parts.and_then(|parts| parts.run(&plan, idle));
        // The process may end without the exit handlers that would write what a guest did not flush.
        let _ = std::io::stdout().flush();
        let (code, failure) = match result {
            Ok(code) => (code, None),
            Err(error) => report::outcome(&error),
        };
        let last_lines = stderr::last_lines();
        log_rate::finish(&last_lines);
        if let Some(text) = &failure {
            log(text);
        }
        if code != 0 {
            artifacts::leave_message(&plan.artifacts, &last_lines, failure.as_deref());
        }
        code
    }
}

impl Parts {
    fn run(self, plan: &Plan, idle: fn()) -> wasmtime::Result<u8> {
        let Parts { guest, tokio, profiled } = self;
        let _noted = host_calls::note();
        // The threads that are started from here on inherit what is blocked.
        let signals = signals::block().context("block signals")?;
        let guest = match guest {
            Guest::Server(server, shared) => {
                return http::serve(plan, *server, tokio, shared, signals, profiled, idle);
            }
            Guest::Once(guest) => guest,
        };
        let profiled = profiled.map(Profiled::serve_in_thread).transpose();
        profiled.context("wait for who asks for a profile")?;
        signals::end_at_the_first(signals).context("wait for signals")?;
        let time_limit = time_limit::begin(plan).context("begin the guest's time")?;
        let result = tokio.block_on(guest.run(plan, time_limit));
        // A read of a guest that is done is not waited for.
        tokio.shutdown_background();
        result
    }
}

impl Once {
    async fn run(self, plan: &Plan, time_limit: Option<TimeLimit>) -> wasmtime::Result<u8> {
        match self {
            Once::Module(module, mut store) => {
                let ended = run_module(&module, &mut store, plan).await;
                exit_code(plan, store, time_limit, ended.map(|()| true))
            }
            Once::Command02(command, mut store) => {
                let ended = run_command_02(&command, &mut store).await;
                exit_code(plan, store, time_limit, ended)
            }
            Once::Command03(command, mut store) => {
                let ended = run_command_03(&command, &mut store).await;
                exit_code(plan, store, time_limit, ended)
            }
            Once::Export(component, mut store) => {
                let ended = run_export(&component, &mut store, plan).await;
                exit_code(plan, store, time_limit, ended)
            }
        }
    }
}

/// Exit code of a guest that ended well, or whose result is an error. A guest that trapped leaves a core dump, which is not part
/// of its time.
fn exit_code(
    plan: &Plan,
    store: impl AsContextMut,
    time_limit: Option<TimeLimit>,
    ended: wasmtime::Result<bool>,
) -> wasmtime::Result<u8> {
    if let Some(time_limit) = time_limit {
        time_limit.end();
    }
    let ended_well = ended.inspect_err(|error| artifacts::leave_core_dump(plan, store, error))?;
    Ok(if ended_well { 0 } else { RUN_FAILED })
}

async fn run_module(
    module: &wasmtime::InstancePre<ModuleState>,
    store: &mut Store<ModuleState>,
    plan: &Plan,
) -> wasmtime::Result<()> {
    let entry = plan.export.as_deref().unwrap_or(START);
    let ty = world::function(module.module(), entry).ok_or_else(|| missing(entry))?;
    let arguments = numbers::arguments(entry, &ty, plan.args.get(1..).unwrap_or_default())?;
    let instance = ready(module.instantiate_async(&mut *store)).await?;
    store.data_mut().memory.made();
    if entry == START {
        return call(store, &instance, START, &[]).await.map(drop);
    }
    if instance.get_func(&mut *store, INITIALIZE).is_some() {
        call(store, &instance, INITIALIZE, &[]).await?;
    }
    for result in call(store, &instance, entry, &arguments).await? {
        println!("{}", numbers::shown(&result));
    }
    Ok(())
}

async fn run_command_02(
    command: &Command02<State>,
    store: &mut Store<State>,
) -> wasmtime::Result<bool> {
    let command = ready(command.instantiate_async(&mut *store)).await?;
    store.data_mut().memory().made();
    Ok(command.wasi_cli_run().call_run(store).await.map_err(trapped)?.is_ok())
}

async fn run_command_03(
    command: &Command03<State>,
    store: &mut Store<State>,
) -> wasmtime::Result<bool> {
    let command = ready(command.instantiate_async(&mut *store)).await?;
    store.data_mut().memory().made();
    let run = async move |store: &_| command.wasi_cli_run().call_run(store).await;
    Ok(store.run_concurrent(run).await.flatten().map_err(trapped)?.is_ok())
}

/// Calls one export and prints what it returns; a `result` that is an error counts as a failure.
async fn run_export(
    component: &InstancePre<State>,
    store: &mut Store<State>,
    plan: &Plan,
) -> wasmtime::Result<bool> {
    let name = plan.export.as_deref().unwrap_or_default();
    let index = world::find_export(component.component(), name).ok_or_else(|| missing(name))?;
    let instance = ready(component.instantiate_async(&mut *store)).await?;
    store.data_mut().memory().made();
    let function = instance.get_func(&mut *store, index).ok_or_else(|| missing(name))?;
    let ty = function.ty(&store);
    let arguments = wave::arguments(name, &ty, plan.args.get(1..).unwrap_or_default())?;
    let mut results = vec![Val::Bool(false); ty.results().len()];
    function.call_async(&mut *store, &arguments, &mut results).await.map_err(trapped)?;
    if let Some(text) = wave::shown(results.first()) {
        println!("{text}");
    }
    Ok(!results.iter().any(|value| matches!(value, Val::Result(Err(_)))))
}

/// Waits for an instance; the guest's own code is next, but for what its modules run as they start.
async fn ready<T>(instance: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    let instantiating = trace::span("instantiate");
    let instance = instance.await?;
    drop(instantiating);
    trace::last(FIRST_INSTRUCTION);
    Ok(instance)
}

/// Calls a function, to what it returns.
async fn call(
    store: &mut Store<ModuleState>,
    instance: &Instance,
    name: &str,
    arguments: &[wasmtime::Val],
) -> wasmtime::Result<Vec<wasmtime::Val>> {
    let function = instance.get_func(&mut *store, name).ok_or_else(|| missing(name))?;
    let mut results = vec![wasmtime::Val::I32(0); function.ty(&*store).results().len()];
    function.call_async(store, arguments, &mut results).await?;
    Ok(results)
}

/// The code is not that of the plan: what there is was checked, and listed, when it was compiled.
fn missing(name: &str) -> Error {
    Error::Export { wanted: name.to_owned(), found: "others".to_owned() }
}
