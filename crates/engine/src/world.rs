//! What a guest is, from what it exports: that decides how it is run.

use serde::{Deserialize, Serialize};
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;
use wasmtime::{Engine, ExternType, Module};

use crate::Error;

/// How a guest is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum World {
    /// A core module of WASI 0.1: `_start`, or the plan's export.
    Module,
    /// `wasi:cli/command` 0.2.
    Command02,
    /// `wasi:cli/command` 0.3.
    Command03,
    /// `wasi:http/proxy` 0.2.
    Http02,
    /// `wasi:http/service` 0.3.
    Http03,
    /// A component of which the plan's export is called.
    Function,
}

/// Exports that make a world, by the beginning of their versioned names; the newest first.
const WORLDS: [(&str, World); 4] = [
    ("wasi:http/handler@0.3", World::Http03),
    ("wasi:http/incoming-handler@0.2", World::Http02),
    ("wasi:cli/run@0.3", World::Command03),
    ("wasi:cli/run@0.2", World::Command02),
];

/// The entry point of a command module (WASI 0.1, "application ABI").
pub const START: &str = "_start";

/// The world of a module, whose entry must be there.
pub fn of_module(module: &Module, export: Option<&str>) -> Result<World, Error> {
    let wanted = export.unwrap_or(START);
    let functions: Vec<&str> = module
        .exports()
        .filter(|export| matches!(export.ty(), ExternType::Func(f) if f.params().len() == 0))
        .map(|export| export.name())
        .collect();
    if functions.contains(&wanted) {
        return Ok(World::Module);
    }
    Err(missing(wanted, &functions))
}

/// The world of a component, or that of one export of it.
pub fn of_component(
    engine: &Engine,
    component: &Component,
    export: Option<&str>,
) -> Result<World, Error> {
    let ty = component.component_type();
    let exports: Vec<(&str, bool)> = ty
        .exports(engine)
        .map(|(name, item)| {
            let callable =
                matches!(item.ty, ComponentItem::ComponentFunc(f) if f.params().len() == 0);
            (name, callable)
        })
        .collect();
    if let Some(wanted) = export {
        let callable: Vec<&str> =
            exports.iter().filter(|(_, c)| *c).map(|(name, _)| *name).collect();
        return match callable.contains(&wanted) {
            true => Ok(World::Function),
            false => Err(missing(wanted, &callable)),
        };
    }
    let names: Vec<&str> = exports.iter().map(|(name, _)| *name).collect();
    let known =
        |(prefix, world)| names.iter().any(|name| name.starts_with(prefix)).then_some(world);
    WORLDS
        .into_iter()
        .find_map(known)
        .ok_or_else(|| missing("wasi:cli/run or wasi:http handler", &names))
}

fn missing(wanted: &str, found: &[&str]) -> Error {
    let found = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    Error::Export { wanted: wanted.to_owned(), found }
}
