//! Runs a plan in the isolated process, and returns its exit code.

use std::io::Write;
use std::sync::Arc;

use tokio::runtime::Builder;
use wasmtime::component::{Component, Linker, Val};
use wasmtime::error::Context;
use wasmtime::{Instance, Module, Store};

use crate::code::{Code, Guest};
use crate::guard::Guard;
use crate::http::outgoing::Outgoing;
use crate::http::roots::{self, Roots};
use crate::interfaces::{self, Interfaces};
use crate::profile::Profiled;
use crate::report::{self, log, trapped};
use crate::state::{ModuleState, Shared, State, is_sequential};
use crate::world::{INITIALIZE, START};
use crate::{
    Error, Given, Plan, Runtime, World, artifacts, files, host_calls, http, numbers, signals,
    stderr, wave, world,
};

/// A command whose `run` returned an error.
const RUN_FAILED: u8 = 1;

/// The end of a start, in its trace.
const FIRST_INSTRUCTION: &str = "first guest instruction";

impl Runtime {
    /// Runs the guest, and blocks until it is done. Whatever goes wrong is reported on stderr.
    ///
    /// To be called in a process without other threads, which ends with the code that is returned: the guest's
    /// own, or one of [`plan::exit_code`]. [`crate::ending_signals`] end it sooner. `idle` is called when a server
    /// waits for its first request: what it took to load the guest is not needed any more.
    pub fn run(&self, plan: &Plan, given: Given, idle: fn()) -> u8 {
        let result = self.attempt(plan, given, idle);
        // The process may end without the exit handlers that would write what a guest did not flush.
        let _ = std::io::stdout().flush();
        let (code, failure) = match result {
            Ok(code) => (code, None),
            Err(error) => report::outcome(&error),
        };
        let last_lines = stderr::last_lines();
        if let Some(text) = &failure {
            log(text);
        }
        if code != 0 {
            artifacts::leave_message(&plan.artifacts, &last_lines, failure.as_deref());
        }
        code
    }

    fn attempt(&self, plan: &Plan, given: Given, idle: fn()) -> wasmtime::Result<u8> {
        let _noted = host_calls::note();
        // The threads that are started from here on inherit what is blocked.
        let signals = signals::block().context("block signals")?;
        let loading = trace::span("map and load the code");
        let code = Code::map(&given.code).context("map the compiled code")?;
        let profiled = |guest: &Guest| {
            given.profiles.map(|listener| Profiled::new(plan.name(), guest, listener))
        };
        let roots = Roots::new(plan.variable(roots::VARIABLE), given.roots);
        let guard = Arc::new(Guard::new(plan.grants.clone()));
        let directories = files::open_granted(&plan.grants, is_sequential(plan.world))?;
        let shared = Arc::new(Shared {
            outgoing: Arc::new(Outgoing::new(roots, guard.clone(), &plan.grants)),
            interfaces: Arc::new(Interfaces::new(plan)),
            guard,
            directories: directories.map(Arc::new),
        });
        if plan.world.serves_http() {
            let loaded = http::Loaded::new(plan, &code, given.page_map)?;
            drop(loading);
            let profiled = profiled(&Guest::Component(loaded.component.clone()));
            return http::serve(plan, loaded, shared, signals, profiled, idle);
        }
        let guest = code.load(&self.engine, plan.world)?;
        drop(loading);
        let profiled = profiled(&guest).map(Profiled::serve_in_thread).transpose();
        profiled.context("wait for who asks for a profile")?;
        signals::end_at_the_first(signals).context("wait for signals")?;
        // One guest, one thread: it blocks in its own calls.
        let tokio = Builder::new_current_thread().enable_all().build();
        let tokio = tokio.context("start the event loop")?;
        let result = tokio.block_on(async {
            match &guest {
                Guest::Module(module) => self.module(plan, module, &shared).await,
                Guest::Component(component) => self.command(plan, component, &shared).await,
            }
        });
        // A read of a guest that is done is not waited for.
        tokio.shutdown_background();
        result
    }

    async fn command(
        &self,
        plan: &Plan,
        component: &Component,
        shared: &Shared,
    ) -> wasmtime::Result<u8> {
        let mut store = State::store(&self.engine, plan, shared)?;
        let linker = interfaces::imported(&self.components, component)?;
        let ended = match plan.world {
            World::Command02 => command_02(&linker, &mut store, component).await,
            World::Command03 => command_03(&linker, &mut store, component).await,
            _ => export(&linker, &mut store, component, plan).await,
        };
        let ended_well =
            ended.inspect_err(|error| artifacts::leave_core_dump(plan, &mut store, error))?;
        Ok(if ended_well { 0 } else { RUN_FAILED })
    }

    async fn module(&self, plan: &Plan, module: &Module, shared: &Shared) -> wasmtime::Result<u8> {
        let mut store = ModuleState::store(&self.engine, plan, shared)?;
        let ended = self.entry(&mut store, module, plan).await;
        ended.inspect_err(|error| artifacts::leave_core_dump(plan, &mut store, error))?;
        Ok(0)
    }

    async fn entry(
        &self,
        store: &mut Store<ModuleState>,
        module: &Module,
        plan: &Plan,
    ) -> wasmtime::Result<()> {
        let entry = plan.export.as_deref().unwrap_or(START);
        let ty = world::function(module, entry).ok_or_else(|| missing(entry))?;
        let arguments = numbers::arguments(entry, &ty, plan.args.get(1..).unwrap_or_default())?;
        let instance = ready(self.modules.instantiate_async(&mut *store, module)).await?;
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
}

async fn command_02(
    linker: &Linker<State>,
    store: &mut Store<State>,
    component: &Component,
) -> wasmtime::Result<bool> {
    use wasmtime_wasi::p2::bindings::Command;
    let instance = Command::instantiate_async(&mut *store, component, linker);
    let command = ready(instance).await?;
    Ok(command.wasi_cli_run().call_run(store).await.map_err(trapped)?.is_ok())
}

async fn command_03(
    linker: &Linker<State>,
    store: &mut Store<State>,
    component: &Component,
) -> wasmtime::Result<bool> {
    use wasmtime_wasi::p3::bindings::Command;
    let instance = Command::instantiate_async(&mut *store, component, linker);
    let command = ready(instance).await?;
    let run = async move |store: &_| command.wasi_cli_run().call_run(store).await;
    Ok(store.run_concurrent(run).await.flatten().map_err(trapped)?.is_ok())
}

/// Calls one export and prints what it returns; a `result` that is an error counts as a failure.
async fn export(
    linker: &Linker<State>,
    store: &mut Store<State>,
    component: &Component,
    plan: &Plan,
) -> wasmtime::Result<bool> {
    let name = plan.export.as_deref().unwrap_or_default();
    let instance = ready(linker.instantiate_async(&mut *store, component)).await?;
    let index = world::find_export(component, name).ok_or_else(|| missing(name))?;
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
