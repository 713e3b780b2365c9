//! Describes one module or component.

use std::collections::BTreeMap;

use grants::Package;
use provided::World;
use provided::wasm::Features;
use serde::Serialize;
use wasmparser::{KnownCustom, Parser, Payload};
use wit_component::DecodedWasm;
use wit_parser::{Interface, InterfaceId, Resolve, TypeDefKind, WorldItem, WorldKey};

use super::grants::{Grant, needs};
use crate::composition::Part;

/// A description of a module or component.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Guest {
    /// Name of the file or layer.
    pub name: String,
    /// `component` or `module`.
    pub kind: &'static str,
    /// Its size in bytes.
    pub size: u64,
    /// The world in which the shim would run it, such as `wasi:cli/command@0.2`.
    pub world: Option<&'static str>,
    /// Imports, by interface. For a module, by the name of the imported module.
    pub imports: Vec<Import>,
    /// Exports.
    pub exports: Vec<String>,
    /// Languages and tools, by field of the producers section (tool conventions, "ProducersSection").
    pub producers: BTreeMap<String, Vec<String>>,
    /// What it will need.
    pub needs: Vec<Grant>,
    /// What it needs of WebAssembly beyond version 2.0 and the component model, by the names of `wasmtime.shim/features`.
    pub features: Vec<&'static str>,
    /// What it must be offered of `wasmtime.shim/interfaces`.
    pub interfaces: Vec<Package>,
    /// The reason why it is not compiled, if there is one, as a sentence about it.
    pub invalid: Option<String>,
}

/// An interface that a guest imports.
#[derive(Debug, PartialEq, Serialize)]
pub struct Import {
    /// Name, such as `wasi:cli/environment@0.2.3`.
    pub name: String,
    /// Used functions and resources of the interface.
    pub items: Vec<String>,
}

impl Guest {
    /// Describes a part.
    pub fn of(part: &Part) -> Self {
        match &part.wasm {
            Ok(wasm) => Self::read(&part.name, wasm),
            Err(error) => Self { invalid: Some(error.clone()), ..Self::read(&part.name, b"") },
        }
    }

    /// Describes a module or component in binary form.
    pub fn read(name: &str, wasm: &[u8]) -> Self {
        let mut guest = Self { name: name.into(), size: wasm.len() as u64, ..Self::default() };
        guest.kind = if Parser::is_component(wasm) { "component" } else { "module" };
        guest.invalid = invalid(wasm);
        if guest.invalid.is_some() {
            return guest;
        }
        match guest.kind {
            "component" => guest.read_component(wasm),
            _ => guest.read_module(wasm),
        }
        guest.read_producers(wasm);
        guest.needs = needs(&guest);
        guest.features = provided::wasm::needs(wasm).map(Features::names).unwrap_or_default();
        guest.interfaces = Package::of_imports(guest.imports.iter().map(|it| it.name.as_str()));
        guest
    }

    fn read_component(&mut self, wasm: &[u8]) {
        match wit_component::decode(wasm) {
            Ok(DecodedWasm::Component(resolve, world)) => {
                let world = &resolve.worlds[world];
                self.imports = imports(&resolve, world.imports.iter());
                self.exports =
                    world.exports.keys().map(|key| resolve.name_world_key(key)).collect();
            }
            Ok(DecodedWasm::WitPackage(..)) => {
                self.invalid = Some("it is a package of WIT, without code".into());
            }
            Err(error) => {
                self.invalid = Some(format!("it is not valid WebAssembly: {error:#}"));
            }
        }
        self.world = World::of_exports(&self.exports).map(World::name);
    }

    fn read_module(&mut self, wasm: &[u8]) {
        let mut imports: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
            match payload {
                Payload::ImportSection(section) => {
                    for import in section.into_imports().map_while(Result::ok) {
                        let items = imports.entry(import.module.into()).or_default();
                        items.push(import.name.into());
                    }
                }
                Payload::ExportSection(section) => {
                    let names = section.into_iter().map_while(Result::ok);
                    self.exports.extend(names.map(|it| it.name.to_owned()));
                }
                _ => {}
            }
        }
        self.imports = imports.into_iter().map(|(name, items)| Import { name, items }).collect();
        let is_command = self.exports.iter().any(|it| it == "_start");
        self.world = is_command.then_some("a command of WASI 0.1");
    }

    /// Reads the producers of all modules inside. Each name is listed once.
    fn read_producers(&mut self, wasm: &[u8]) {
        for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
            let Payload::CustomSection(section) = payload else { continue };
            let KnownCustom::Producers(fields) = section.as_known() else { continue };
            for field in fields.into_iter().map_while(Result::ok) {
                let names = self.producers.entry(field.name.into()).or_default();
                for value in field.values.into_iter().map_while(Result::ok) {
                    let text = format!("{} {}", value.name, value.version).trim().to_owned();
                    if !names.contains(&text) {
                        names.push(text);
                    }
                }
            }
        }
    }
}

/// Returns why no node compiles something, whatever its settings are, as a sentence about it.
fn invalid(wasm: &[u8]) -> Option<String> {
    if ::compose::is_too_deep(wasm) {
        return Some("its components or types are nested too deeply".into());
    }
    provided::wasm::check(wasm, Features::OFFERED).err().map(|error| error.to_string())
}

fn imports<'a>(
    resolve: &Resolve,
    items: impl Iterator<Item = (&'a WorldKey, &'a WorldItem)>,
) -> Vec<Import> {
    let mut imports = Vec::new();
    for (key, item) in items {
        let name = resolve.name_world_key(key);
        match item {
            WorldItem::Interface { id, .. } => {
                let items = used(resolve, *id);
                // An interface of types alone needs no provider.
                if !items.is_empty() {
                    imports.push(Import { name, items });
                }
            }
            WorldItem::Function(_) => imports.push(Import { name, items: Vec::new() }),
            WorldItem::Type { .. } => {}
        }
    }
    imports
}

/// Returns the functions and resources of an interface, as a component names them.
fn used(resolve: &Resolve, interface: InterfaceId) -> Vec<String> {
    let Interface { functions, types, .. } = &resolve.interfaces[interface];
    let is_resource = |id| matches!(resolve.types[id].kind, TypeDefKind::Resource);
    let resources = types.iter().filter(|(_, id)| is_resource(**id)).map(|(name, _)| name);
    resources.chain(functions.keys()).cloned().collect()
}
