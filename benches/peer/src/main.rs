//! The peer: a shim on the crate `containerd-shim-wasm`, which runs Wasmtime as containerd/runwasi's does. Its engine
//! is as new as ours, so that what is compared is the shim.

mod http;

use std::hash::Hash;

use anyhow::{Context, Result};
use containerd_shim_wasm::sandbox::Sandbox;
use containerd_shim_wasm::sandbox::context::{RuntimeContext, WasmLayer};
use containerd_shim_wasm::shim::{Cli, Compiler, Shim, Version, version};
use wasmtime::component::{Component, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

struct Peer;

#[derive(Default)]
struct Guest;

/// What a store holds.
struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
}

impl State {
    fn new(args: &[String], env: &[String]) -> Result<State> {
        let mut builder = WasiCtx::builder();
        builder.args(args).inherit_stdio().inherit_network();
        for variable in env {
            let (key, value) = variable.split_once('=').unwrap_or((variable, ""));
            builder.env(key, value);
        }
        builder.preopened_dir("/", "/", FsPerms::ReadWrite).map_err(anyhow::Error::from)?;
        let (http, table) = (WasiHttpCtx::new(), ResourceTable::new());
        Ok(State { wasi: builder.build(), http, table })
    }
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

/// What was compiled is kept by containerd, for images with wasm layers.
struct Precompiler;

impl Compiler for Precompiler {
    fn cache_key(&self) -> impl Hash {
        "wasmtime-48"
    }

    async fn compile(&self, layers: &[WasmLayer]) -> Result<Vec<Option<Vec<u8>>>> {
        let engine = engine()?;
        let compile = |layer: &WasmLayer| Ok(Some(engine.precompile_component(&layer.layer)?));
        layers.iter().map(compile).collect()
    }
}

impl Sandbox for Guest {
    async fn run_wasi(&self, context: &impl RuntimeContext) -> Result<i32> {
        let engine = engine()?;
        let source = context.entrypoint().source;
        let bytes = source.as_bytes()?;
        let component = match source.is_precompiled()? {
            // SAFETY: containerd keeps it for this shim, as the peer believes.
            true => unsafe { Component::deserialize(&engine, &bytes) }?,
            false => Component::from_binary(&engine, &bytes)?,
        };
        let mut linker = Linker::<State>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        if component.get_export_index(None, http::HANDLER).is_some() {
            let (args, env) = (context.args().to_vec(), context.envs().to_vec());
            return http::serve(&linker, &component, move || State::new(&args, &env)).await;
        }
        let mut store = Store::new(&engine, State::new(context.args(), context.envs())?);
        let command = Command::instantiate_async(&mut store, &component, &linker).await?;
        match command.wasi_cli_run().call_run(&mut store).await {
            Ok(result) => Ok(i32::from(result.is_err())),
            Err(error) => {
                let exit = error.downcast_ref::<I32Exit>().map(|exit| exit.0);
                exit.context("the guest trapped")
            }
        }
    }
}

fn main() {
    Peer::run(None);
}
