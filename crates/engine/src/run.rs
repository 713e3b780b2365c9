//! Runs a plan in the isolated process, to its exit code.

use std::fs::File;
use std::io::Write;

use tokio::runtime::Builder;
use wasmtime::Store;
use wasmtime::component::{Component, Val};
use wasmtime_wasi::p1::WasiP1Ctx;

use crate::code::Code;
use crate::state::{self, State};
use crate::{Plan, Runtime, World, http, report, signals, world};

/// A command whose `run` returned an error.
const RUN_FAILED: u8 = 1;

impl Runtime {
    /// Runs the guest, and blocks until it is done. Whatever goes wrong is told on stderr.
    ///
    /// Returns the guest's own exit code, or one of this crate's constants.
    pub fn run(&self, plan: &Plan, code: File) -> u8 {
        match self.attempt(plan, code) {
            Ok(code) => code,
            Err(error) => {
                let (code, text) = report::outcome(&error);
                if let Some(text) = text {
                    tell(&text);
                }
                code
            }
        }
    }

    fn attempt(&self, plan: &Plan, code: File) -> wasmtime::Result<u8> {
        let code = Code::read(code)?;
        if matches!(plan.world, World::Http02 | World::Http03) {
            return http::serve(self, plan, &code.component(&self.engine)?);
        }
        signals::end_at_once()?;
        // One guest, one thread: it blocks in its own calls.
        Builder::new_current_thread().enable_all().build()?.block_on(self.command(plan, &code))
    }

    async fn command(&self, plan: &Plan, code: &Code) -> wasmtime::Result<u8> {
        if plan.world == World::Module {
            return self.module(plan, code).await;
        }
        let component = code.component(&self.engine)?;
        let mut store = Store::new(&self.engine, State::new(plan)?);
        let ended_well = match plan.world {
            World::Command02 => self.command_02(&mut store, &component).await?,
            World::Command03 => self.command_03(&mut store, &component).await?,
            _ => {
                self.function(&mut store, &component, plan.export.as_deref().unwrap_or_default())
                    .await?
            }
        };
        Ok(if ended_well { 0 } else { RUN_FAILED })
    }

    async fn module(&self, plan: &Plan, code: &Code) -> wasmtime::Result<u8> {
        let module = code.module(&self.engine)?;
        let mut store = Store::new(&self.engine, state::preview1(plan)?);
        let instance = self.modules.instantiate_async(&mut store, &module).await?;
        let entry = plan.export.as_deref().unwrap_or(world::START);
        let function = instance.get_func(&mut store, entry);
        let function = function.ok_or_else(|| wasmtime::format_err!("no function {entry:?}"))?;
        call(&mut store, &function).await?;
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

    /// Calls one export; a `result` that is an error counts as a failure.
    async fn function(
        &self,
        store: &mut Store<State>,
        component: &Component,
        name: &str,
    ) -> wasmtime::Result<bool> {
        let instance = self.components.instantiate_async(&mut *store, component).await?;
        let function = instance.get_func(&mut *store, name);
        let function = function.ok_or_else(|| wasmtime::format_err!("no function {name:?}"))?;
        let mut results = vec![Val::Bool(false); function.ty(&store).results().len()];
        function.call_async(&mut *store, &[], &mut results).await?;
        Ok(!results.iter().any(|value| matches!(value, Val::Result(Err(_)))))
    }
}

/// Calls a function without parameters; what it returns is dropped.
async fn call(store: &mut Store<WasiP1Ctx>, function: &wasmtime::Func) -> wasmtime::Result<()> {
    let mut results = vec![wasmtime::Val::I32(0); function.ty(&*store).results().len()];
    function.call_async(store, &[], &mut results).await
}

/// Writes a text to stderr; where nobody reads there is nobody to tell.
pub fn tell(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{}", text.trim_end());
}
