//! World of a guest, which its exports determine. It decides how the guest is run.

use wasmparser::Payload;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, ComponentExportIndex, InstancePre};
use wasmtime::{Engine, ExternType, FuncType, Module};
use wasmtime_wasi::{p2, p3};

use crate::state::State;
use crate::{Error, World, numbers, report, wave};

/// Entries that a component may have, for the error if it has none.
const ENTRIES: &str =
    "wasi:cli/run@0.2 or @0.3, wasi:http/incoming-handler@0.2, wasi:http/handler@0.3";

/// The entry point of a command module (WASI 0.1, "application ABI").
pub const START: &str = "_start";

/// Function that is called before any other export of a module that is not a command (WASI 0.1, "application ABI").
pub const INITIALIZE: &str = "_initialize";

/// Returns the world of a module. Its entry must exist.
pub fn of_module(module: &Module, export: Option<&str>) -> Result<World, Error> {
    if function(module, export.unwrap_or(START)).is_some() {
        return Ok(World::Module);
    }
    let names = module.exports().map(|export| export.name());
    let callable = names.filter_map(|name| {
        let signature = numbers::signature(name, &function(module, name)?);
        Some(Callable { name: name.to_owned(), signature })
    });
    Err(missing(export, START, &callable.collect::<Vec<_>>()))
}

/// Returns the type of a module's function that can be called by its name. [`INITIALIZE`] cannot, because it is called before
/// any other function.
pub fn function(module: &Module, name: &str) -> Option<FuncType> {
    let ExternType::Func(ty) = module.get_export(name)? else { return None };
    let may_be = match name {
        INITIALIZE => false,
        START => ty.params().len() == 0,
        _ => numbers::is_callable(&ty),
    };
    may_be.then_some(ty)
}

/// Returns the world of a component, or that of one of its exports.
pub fn of_component(
    engine: &Engine,
    component: &Component,
    export: Option<&str>,
) -> Result<World, Error> {
    let functions = functions(engine, component);
    let world = match export {
        Some(wanted) => functions.iter().any(|(name, _)| name == wanted).then_some(World::Export),
        None => {
            let ty = component.component_type();
            let names: Vec<&str> = ty.exports(engine).map(|(name, _)| name).collect();
            provided::World::of_exports(&names).map(World::from)
        }
    };
    world.ok_or_else(|| {
        let callable = functions.into_iter().map(|(name, ty)| {
            let signature = wave::signature(&name, &ty);
            Callable { name, signature }
        });
        missing(export, ENTRIES, &callable.collect::<Vec<_>>())
    })
}

/// An export that can be called by its name.
struct Callable {
    name: String,
    /// Name and types.
    signature: String,
}

/// Returns whether a component's own world serves HTTP. This must be known before it is compiled. Malformed parts are left to
/// the compiler.
pub fn serves_http(component: &[u8]) -> bool {
    let mut depth = 0u32;
    let mut names = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::ModuleSection { .. } | Payload::ComponentSection { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::ComponentExportSection(exports)) if depth == 0 => {
                names.extend(exports.into_iter().flatten().map(|export| export.name.name));
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    provided::World::of_exports(&names).is_some_and(|it| World::from(it).serves_http())
}

/// The functions it exports: those of an interface as `interface#function`.
fn functions(engine: &Engine, component: &Component) -> Vec<(String, ComponentFunc)> {
    let mut functions = Vec::new();
    for (name, item) in component.component_type().exports(engine) {
        match item.ty {
            ComponentItem::ComponentFunc(function) => functions.push((name.to_owned(), function)),
            ComponentItem::ComponentInstance(interface) => {
                for (function, item) in interface.exports(engine) {
                    if let ComponentItem::ComponentFunc(ty) = item.ty {
                        functions.push((format!("{name}#{function}"), ty));
                    }
                }
            }
            _ => {}
        }
    }
    functions
}

/// What a component imports and exports: interfaces by name, functions with their types.
pub fn describe_component(engine: &Engine, component: &Component) -> String {
    let ty = component.component_type();
    let imports = ty.imports(engine).map(|(name, item)| described("import", name, &item.ty));
    let exports = ty.exports(engine).map(|(name, item)| described("export", name, &item.ty));
    let mut text: String = imports.chain(exports).collect();
    for (name, function) in functions(engine, component).iter().filter(|it| it.0.contains('#')) {
        text += &format!("  {}\n", wave::signature(name, function));
    }
    text
}

fn described(verb: &str, name: &str, item: &ComponentItem) -> String {
    match item {
        ComponentItem::ComponentFunc(function) => {
            format!("{verb} {}\n", wave::signature(name, function))
        }
        _ => format!("{verb} {name}\n"),
    }
}

/// What a module imports and exports.
pub fn describe_module(module: &Module) -> String {
    let imports = module.imports().map(|it| format!("import {} {}\n", it.module(), it.name()));
    let exports = module.exports().map(|it| format!("export {}\n", it.name()));
    imports.chain(exports).collect()
}

/// Where an export that [`of_component`] knows is.
pub fn find_export(component: &Component, name: &str) -> Option<ComponentExportIndex> {
    match name.rsplit_once('#') {
        Some((interface, function)) => {
            let interface = component.get_export_index(None, interface)?;
            component.get_export_index(Some(&interface), function)
        }
        None => component.get_export_index(None, name),
    }
}

/// The error for a guest without the export that is wanted, or without an `entry` if none is.
fn missing(wanted: Option<&str>, entry: &'static str, callable: &[Callable]) -> Error {
    let signatures: Vec<&str> = callable.iter().map(|it| it.signature.as_str()).collect();
    let found = if signatures.is_empty() { "none".to_owned() } else { signatures.join(", ") };
    match (wanted, callable) {
        (None, [first, ..]) => Error::Library { wanted: entry, example: first.name.clone(), found },
        (wanted, _) => Error::Export { wanted: wanted.unwrap_or(entry).to_owned(), found },
    }
}

/// Checks that a component's entry is what its world says, down to types and the release of the interface.
pub fn check(world: World, linked: InstancePre<State>) -> Result<(), Error> {
    let checked = match world {
        World::Command02 => p2::bindings::CommandPre::new(linked).map(drop),
        World::Command03 => p3::bindings::CommandPre::new(linked).map(drop),
        World::HttpProxy02 => wasmtime_wasi_http::p2::bindings::ProxyPre::new(linked).map(drop),
        World::HttpService03 => wasmtime_wasi_http::p3::bindings::ServicePre::new(linked).map(drop),
        World::Module | World::Export => Ok(()),
    };
    checked.map_err(|error| Error::World { world: world.name(), reason: report::one_line(&error) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Layer, Runtime};

    fn world(exports: &str, export: Option<&str>) -> Result<World, Error> {
        let component = format!(
            r#"(component
                (import "wasi:http/types@0.2.0" (instance $types
                    (export "incoming-request" (type (sub resource)))
                    (export "response-outparam" (type (sub resource)))))
                (alias export $types "incoming-request" (type $request))
                (alias export $types "response-outparam" (type $response))
                (core module $m
                    (func (export "run") (result i32) i32.const 0)
                    (func (export "handle") (param i32 i32)))
                (core instance $i (instantiate $m))
                (func $run (result (result)) (canon lift (core func $i "run")))
                (func $run-async async (result (result)) (canon lift (core func $i "run")))
                (func $handle (param "request" (own $request)) (param "response-out" (own $response))
                    (canon lift (core func $i "handle")))
                (instance $command (export "run" (func $run)))
                (instance $command-async (export "run" (func $run-async)))
                (instance $server (export "handle" (func $handle)))
                {exports})"#
        );
        let layer = Layer { name: "app".into(), wasm: component.into() };
        let compiled = Runtime::new().expect("a runtime");
        let compiled = compiled.compile(&[layer], export, &grants::CodeSettings::default());
        compiled.map(|compiled| compiled.world)
    }

    #[test]
    fn the_world_of_a_component_is_read_from_its_exports() {
        for (exports, expected) in [
            (r#"(export "wasi:cli/run@0.2.3" (instance $command))"#, World::Command02),
            (r#"(export "wasi:cli/run@0.3.0" (instance $command-async))"#, World::Command03),
            (
                r#"(export "wasi:cli/run@0.2.3" (instance $command))
                   (export "wasi:http/incoming-handler@0.2.0" (instance $server))"#,
                World::HttpProxy02,
            ),
        ] {
            assert_eq!(world(exports, None).expect("compiles"), expected, "{exports}");
        }
    }

    #[test]
    fn a_component_without_an_entry_is_told_what_it_exports_and_what_it_might() {
        let error = world(r#"(export "check" (func $run))"#, None).expect_err("is refused");
        let text = error.to_string();
        assert_eq!(error.exit_code(), 127);
        assert!(text.contains("there is no export wasi:cli/run@0.2"), "{text}");
        let end = "such as \"PATH#check\"; allowed is check: func() -> result";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn an_export_can_be_asked_for_by_name() {
        let exports = r#"(export "check" (func $run)) (export "with-parameters" (func $handle))"#;
        assert_eq!(world(exports, Some("check")).expect("compiles"), World::Export);
        assert_eq!(world(exports, Some("with-parameters")).expect("compiles"), World::Export);
        let error = world(exports, Some("chekc")).expect_err("is refused").to_string();
        assert!(error.contains("allowed is check: func() -> result, with-parameters: "), "{error}");
    }

    #[test]
    fn a_function_of_an_exported_interface_can_be_asked_for() {
        let exports = r#"(export "acme:jobs/nightly@1.0.0" (instance $command))"#;
        let wanted = "acme:jobs/nightly@1.0.0#run";
        assert_eq!(world(exports, Some(wanted)).expect("compiles"), World::Export);
        let error = world(exports, Some("acme:jobs/nightly@1.0.0")).expect_err("is refused");
        assert!(error.to_string().contains(&format!("allowed is {wanted}: func()")), "{error}");
    }

    #[test]
    fn an_entry_of_another_type_or_draft_is_refused_before_it_runs() {
        for exports in [
            r#"(export "wasi:cli/run@0.2.3" (instance $server))"#,
            r#"(export "wasi:cli/run@0.3.0" (instance $server))"#,
            r#"(export "wasi:cli/run@0.3.0-rc-2025-09-16" (instance $command-async))"#,
        ] {
            let error = world(exports, None).expect_err("is refused");
            assert_eq!(error.exit_code(), 126);
            assert!(error.to_string().contains("wasi:cli/command@0."), "{error}");
        }
    }
}
