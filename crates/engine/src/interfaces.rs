//! The interfaces that a component gets only if it imports them: `wasi:config`, `wasi:keyvalue`,
//! `wasi:logging`, `wasi:nn` and `wasi:tls`.
//!
//! Read in this order: the table here, `config` with `directory`, `logging`, `keyvalue`, `tls`, and `nn`. The interfaces
//! are drafts, and toolchains emit several drafts of each. Wasmtime compares a component's types by structure, so that
//! one function serves every draft in which its type is the same. Therefore the functions are defined here by hand, and
//! not by bindings for each draft.
//!
//! None of these interfaces lets a guest do what it could not do before. Configuration comes from its own environment
//! and files. A store is in its own memory, in a file of its own, or in a database that its Pod names and its node
//! allows. What it logs goes to its own stderr. TLS is spoken over its own sockets. Models come from its own files; but
//! native code reads and computes them, which is one more thing to attack in the guest's own process.

pub mod config;
mod directory;
pub mod keyvalue;
mod logging;
mod nn;
pub mod tls;
pub mod types;

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use grants::Package;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, LinkerInstance, Resource, ResourceType};

use crate::Plan;
use crate::http::roots::Roots;
use crate::lines::Lines;
use crate::state::State;
use config::Config;
use keyvalue::Stores;

/// Defines the functions of an interface.
type Define = fn(&mut LinkerInstance<'_, State>) -> wasmtime::Result<()>;

/// Each interface by the name that a component imports it by. An import of a draft is only satisfied by that draft.
const INTERFACES: [(&str, Define); 17] = [
    ("wasi:config/runtime@0.2.0-draft", config::define),
    ("wasi:config/store@0.2.0-draft", config::define),
    ("wasi:config/store@0.2.0-draft-2024-09-27", config::define),
    ("wasi:config/store@0.2.0-rc.1", config::define),
    ("wasi:keyvalue/atomics@0.2.0-draft", keyvalue::atomics::define_draft),
    ("wasi:keyvalue/atomics@0.2.0-draft2", keyvalue::atomics::define_draft2),
    ("wasi:keyvalue/batch@0.2.0-draft", keyvalue::batch::define),
    ("wasi:keyvalue/batch@0.2.0-draft2", keyvalue::batch::define),
    ("wasi:keyvalue/store@0.2.0-draft", keyvalue::define_draft),
    ("wasi:keyvalue/store@0.2.0-draft2", keyvalue::define_draft2),
    ("wasi:logging/logging", logging::define),
    ("wasi:logging/logging@0.1.0-draft", logging::define),
    ("wasi:nn/errors@0.2.0-rc-2024-10-28", nn::define_errors),
    ("wasi:nn/graph@0.2.0-rc-2024-10-28", nn::define_graph),
    ("wasi:nn/inference@0.2.0-rc-2024-10-28", nn::define_inference),
    ("wasi:nn/tensor@0.2.0-rc-2024-10-28", nn::define_tensor),
    ("wasi:tls/types@0.2.0-draft", tls::define),
];

/// What all instances of a container share.
pub struct Interfaces {
    /// Where `wasi:config` takes its values from.
    pub config: Config,
    /// The stores of `wasi:keyvalue`.
    pub keyvalue: Stores,
}

impl Interfaces {
    /// As the plan says. Nothing is opened before the guest asks for it.
    pub fn new(plan: &Plan, roots: &Arc<Roots>) -> Interfaces {
        Interfaces { config: Config::new(plan), keyvalue: Stores::new(plan, roots) }
    }
}

/// The linker with those of these interfaces that the component imports.
///
/// # Errors
/// Those of Wasmtime.
pub fn imported<'a>(
    linker: &'a Linker<State>,
    component: &Component,
) -> wasmtime::Result<Cow<'a, Linker<State>>> {
    let mut linker = Cow::Borrowed(linker);
    let ty = component.component_type();
    for (name, _) in ty.imports(component.engine()) {
        if let Some((_, define)) = INTERFACES.iter().find(|(provided, _)| *provided == name) {
            define(&mut linker.to_mut().instance(name)?)?;
        }
    }
    Ok(linker)
}

/// The packages that a component must be offered, because it imports from them. An interface of types alone gives it nothing.
pub fn packages(component: &Component) -> Vec<Package> {
    let (ty, engine) = (component.component_type(), component.engine());
    let gives_more = |item: &ComponentItem| match item {
        ComponentItem::ComponentInstance(interface) => {
            interface.exports(engine).any(|(_, it)| !matches!(it.ty, ComponentItem::Type(_)))
        }
        _ => false,
    };
    Package::of_imports(ty.imports(engine).filter(|(_, it)| gives_more(&it.ty)).map(|it| it.0))
}

/// Defines a resource whose values are in the guest's table.
fn resource<T: Send + 'static>(
    interface: &mut LinkerInstance<'_, State>,
    name: &str,
) -> wasmtime::Result<()> {
    interface.resource(name, ResourceType::host::<T>(), |mut store, resource| {
        store.data_mut().table().delete(Resource::<T>::new_own(resource))?;
        Ok(())
    })
}

/// Writes a line about a failure to the container's stderr, the first time that one of its kind happens: a guest may try again
/// for ever. Other kinds are not used up by those that a guest can make many of, but wait.
fn log_once(kind: impl AsRef<str>, line: &str) {
    static LOGGED: LazyLock<Lines> = LazyLock::new(Lines::default);
    LOGGED.log(kind.as_ref(), line);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Runtime;

    #[test]
    fn a_guest_that_imports_none_of_them_has_the_linker_of_all_others() {
        let runtime = Runtime::new().expect("a runtime");
        let is_shared = |text: &str| {
            let component = Component::new(&runtime.engine, text).expect("a component");
            let linker = imported(&runtime.components, &component).expect("a linker");
            matches!(linker, Cow::Borrowed(_))
        };
        assert!(is_shared("(component)"));
        for (name, _) in INTERFACES {
            assert!(!is_shared(&format!(r#"(component (import "{name}" (instance)))"#)), "{name}");
        }
    }

    #[test]
    fn a_component_must_be_offered_the_packages_whose_functions_or_resources_it_imports() {
        let runtime = Runtime::new().expect("a runtime");
        let packages = |imports: &str| {
            let text = format!("(component {imports})");
            packages(&Component::new(&runtime.engine, text).expect("a component"))
        };
        let function = r#"(instance (export "f" (func)))"#;
        for (name, _) in INTERFACES {
            assert_eq!(packages(&format!(r#"(import "{name}" {function})"#)).len(), 1, "{name}");
        }
        let resource = r#"(instance (export "r" (type (sub resource))))"#;
        let types = r#"(instance (type $t (enum "a")) (export "t" (type (eq $t))))"#;
        let imports = format!(
            r#"(import "wasi:tls/types@0.2.0-draft" {resource})
               (import "wasi:config/store@0.2.0-rc.1" {types})
               (import "wasi:http/types@0.2.0" {resource})
               (import "wasi:http/outgoing-handler@0.2.0" {function})
               (import "wasi:cli/environment@0.2.0" {function})"#
        );
        assert_eq!(packages(&imports), [Package::Http, Package::Tls]);
    }
}
