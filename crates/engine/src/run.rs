//! Runs a plan in the isolated process, to its exit code.

use std::fs::File;
use std::io::Write;

use tokio::runtime::Builder;
use wasmtime::component::{Component, Val};
use wasmtime::error::Context;
use wasmtime::{Instance, Store};

use crate::code::Code;
use crate::report::{self, tell};
use crate::state::{ModuleState, State};
use crate::world::{INITIALIZE, START};
use crate::{Error, Plan, Runtime, World, http, signals, wave, world};

/// A command whose `run` returned an error.
const RUN_FAILED: u8 = 1;

impl Runtime {
    /// Runs the guest, and blocks until it is done. Whatever goes wrong is told on stderr.
    ///
    /// To be called in a process without other threads, which ends with the code that is returned: the guest's
    /// own, or one of this crate's constants. [`crate::ending_signals`] end it sooner.
    pub fn run(&self, plan: &Plan, code: File) -> u8 {
        let result = self.attempt(plan, &code);
        // The process may end without the exit handlers that would write what a guest did not flush.
        let _ = std::io::stdout().flush();
        result.unwrap_or_else(|error| {
            let (code, text) = report::outcome(&error);
            if let Some(text) = text {
                tell(&text);
            }
            code
        })
    }

    fn attempt(&self, plan: &Plan, code: &File) -> wasmtime::Result<u8> {
        let code = Code::map(code).context("map the compiled code")?;
        if plan.world.serves_http() {
            return http::serve(self, plan, &code.component(&self.engine)?);
        }
        signals::end_at_the_first().context("wait for signals")?;
        // One guest, one thread: it blocks in its own calls.
        let tokio = Builder::new_current_thread().enable_all().build();
        let tokio = tokio.context("start the event loop")?;
        let result = tokio.block_on(self.command(plan, &code));
        // Nobody waits for a read of a guest that is done.
        tokio.shutdown_background();
        result
    }

    async fn command(&self, plan: &Plan, code: &Code) -> wasmtime::Result<u8> {
        if plan.world == World::Module {
            return self.module(plan, code).await;
        }
        let component = code.component(&self.engine)?;
        let mut store = State::store(&self.engine, plan)?;
        let ended_well = match plan.world {
            World::Command02 => self.command_02(&mut store, &component).await?,
            World::Command03 => self.command_03(&mut store, &component).await?,
            _ => self.export(&mut store, &component, plan).await?,
        };
        Ok(if ended_well { 0 } else { RUN_FAILED })
    }

    async fn module(&self, plan: &Plan, code: &Code) -> wasmtime::Result<u8> {
        let module = code.module(&self.engine)?;
        let mut store = ModuleState::store(&self.engine, plan)?;
        let instance = self.modules.instantiate_async(&mut store, &module).await?;
        let entry = plan.export.as_deref().unwrap_or(START);
        if entry != START && instance.get_func(&mut store, INITIALIZE).is_some() {
            call(&mut store, &instance, INITIALIZE).await?;
        }
        call(&mut store, &instance, entry).await?;
        Ok(0)
    }

    async fn command_02(
        &self,
        store: &mut Store<State>,
        component: &Component,
    ) -> wasmtime::Result<bool> {
        use wasmtime_wasi::p2::bindings::Command;
        let command = Command::instantiate_async(&mut *store, component, &self.components).await?;
        Ok(command.wasi_cli_run().call_run(store).await?.is_ok())
    }

    async fn command_03(
        &self,
        store: &mut Store<State>,
        component: &Component,
    ) -> wasmtime::Result<bool> {
        use wasmtime_wasi::p3::bindings::Command;
        let command = Command::instantiate_async(&mut *store, component, &self.components).await?;
        let run = async move |store: &_| command.wasi_cli_run().call_run(store).await;
        Ok(store.run_concurrent(run).await??.is_ok())
    }

    /// Calls one export and prints what it returns; a `result` that is an error counts as a failure.
    async fn export(
        &self,
        store: &mut Store<State>,
        component: &Component,
        plan: &Plan,
    ) -> wasmtime::Result<bool> {
        let name = plan.export.as_deref().unwrap_or_default();
        let instance = self.components.instantiate_async(&mut *store, component).await?;
        let index = world::find_export(component, name).ok_or_else(|| missing(name))?;
        let function = instance.get_func(&mut *store, index).ok_or_else(|| missing(name))?;
        let ty = function.ty(&store);
        let arguments = wave::arguments(name, &ty, plan.args.get(1..).unwrap_or_default())?;
        let mut results = vec![Val::Bool(false); ty.results().len()];
        function.call_async(&mut *store, &arguments, &mut results).await?;
        if let Some(text) = wave::shown(results.first()) {
            println!("{text}");
        }
        Ok(!results.iter().any(|value| matches!(value, Val::Result(Err(_)))))
    }
}

/// Calls a function without parameters; what it returns is dropped.
async fn call(
    store: &mut Store<ModuleState>,
    instance: &Instance,
    name: &str,
) -> wasmtime::Result<()> {
    let function = instance.get_func(&mut *store, name).ok_or_else(|| missing(name))?;
    let mut results = vec![wasmtime::Val::I32(0); function.ty(&*store).results().len()];
    function.call_async(store, &[], &mut results).await
}

/// The code is not that of the plan: what there is was checked, and listed, when it was compiled.
fn missing(name: &str) -> Error {
    Error::Export { wanted: name.to_owned(), found: "others".to_owned() }
}
