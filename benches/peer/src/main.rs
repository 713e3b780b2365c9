//! The baseline: a runwasi-style shim on the crate `containerd-shim-wasm`, which runs Wasmtime as containerd/runwasi's
//! does. It has the same engine as our shim, so that only the shims are compared.

mod http;
mod module;

use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::Result;
use containerd_shim_wasm::sandbox::Sandbox;
use containerd_shim_wasm::sandbox::context::{RuntimeContext, WasmBinaryType, WasmLayer};
use containerd_shim_wasm::shim::{Cli, Compiler, Shim, Version, version};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Module, Precompiled, Store};
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

struct Peer;

#[derive(Default)]
struct Guest;

/// State of a store.
struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
}

impl State {
    fn new(args: &[String], env: &[String]) -> Result<State> {
        let (http, table) = (WasiHttpCtx::new(), ResourceTable::new());
        Ok(State { wasi: wasi(args, env)?.build(), http, table })
    }
}

/// Returns a WASI context as runwasi sets it up.
fn wasi(args: &[String], env: &[String]) -> Result<WasiCtxBuilder> {
    let mut builder = WasiCtx::builder();
    builder.args(args).inherit_stdio().inherit_network();
    for variable in env {
        let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
        builder.env(key, value);
    }
    builder.preopened_dir("/", "/", FsPerms::ReadWrite).map_err(anyhow::Error::from)?;
    Ok(builder)
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

fn engine() -> Result<Engine> {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    Ok(Engine::new(&config)?)
}

impl Shim for Peer {
    type Sandbox = Guest;

    fn name() -> &'static str {
        "peer"
    }

    fn version() -> Version {
        version!()
    }

    async fn compiler() -> Option<impl Compiler> {
        Some(Precompiler)
    }
}

/// Has containerd keep compiled code, for images with wasm layers.
struct Precompiler;

impl Compiler for Precompiler {
    fn cache_key(&self) -> impl Hash {
        // As in runwasi, the hash covers the target and the settings of the compilation.
        let mut hasher = DefaultHasher::new();
        if let Ok(engine) = engine() {
            engine.precompile_compatibility_hash().hash(&mut hasher);
        }
        hasher.finish()
    }

    async fn compile(&self, layers: &[WasmLayer]) -> Result<Vec<Option<Vec<u8>>>> {
        let engine = engine()?;
        let compile = |WasmLayer { layer, .. }: &WasmLayer| {
            Ok(match WasmBinaryType::from_bytes(layer) {
                Some(WasmBinaryType::Module) => Some(engine.precompile_module(layer)?),
                Some(WasmBinaryType::Component) => Some(engine.precompile_component(layer)?),
                None => None,
            })
        };
        layers.iter().map(compile).collect()
    }
}

/// Code to run.
enum Code {
    Module(Module),
    Component(Component),
}

impl Code {
    fn load(engine: &Engine, bytes: &[u8]) -> Result<Code> {
        Ok(match (Engine::detect_precompiled(bytes), WasmBinaryType::from_bytes(bytes)) {
            // SAFETY: containerd keeps the code for this shim, and the baseline trusts it.
            (Some(Precompiled::Module), _) => {
                Code::Module(unsafe { Module::deserialize(engine, bytes) }?)
            }
            // SAFETY: as above.
            (Some(Precompiled::Component), _) => {
                Code::Component(unsafe { Component::deserialize(engine, bytes) }?)
            }
            (None, Some(WasmBinaryType::Module)) => {
                Code::Module(Module::from_binary(engine, bytes)?)
            }
            (None, _) => Code::Component(Component::from_binary(engine, bytes)?),
        })
    }
}

impl Sandbox for Guest {
    async fn run_wasi(&self, context: &impl RuntimeContext) -> Result<i32> {
        let engine = engine()?;
        let entrypoint = context.entrypoint();
        let bytes = entrypoint.source.as_bytes()?;
        match Code::load(&engine, &bytes)? {
            Code::Component(code) => component(&engine, &code, context).await,
            Code::Module(code) => {
                let wasi = wasi(context.args(), context.envs())?.build_p1();
                ended(module::run(&engine, &code, &entrypoint.func, wasi).await.map(|()| 0))
            }
        }
    }
}

async fn component(
    engine: &Engine,
    component: &Component,
    context: &impl RuntimeContext,
) -> Result<i32> {
    let mut linker = Linker::<State>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    if component.get_export_index(None, http::HANDLER).is_some() {
        let (args, env) = (context.args().to_vec(), context.envs().to_vec());
        return http::serve(&linker, component, move || State::new(&args, &env)).await;
    }
    let mut store = Store::new(engine, State::new(context.args(), context.envs())?);
    let command = Command::instantiate_async(&mut store, component, &linker).await?;
    let result = command.wasi_cli_run().call_run(&mut store).await;
    ended(result.map(|result| i32::from(result.is_err())).map_err(anyhow::Error::from))
}

/// Returns the exit code, if the guest gave one.
fn ended(result: Result<i32>) -> Result<i32> {
    result.or_else(|error| match error.downcast_ref::<I32Exit>() {
        Some(exit) => Ok(exit.0),
        None => Err(error.context("the guest trapped")),
    })
}

fn main() {
    Peer::run(None);
}
