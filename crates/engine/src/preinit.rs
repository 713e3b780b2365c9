//! Initialisation of a component, which runs once before the component is compiled. The memory that it leaves becomes
//! part of the code.
//!
//! The compile worker does this, without privileges. The component can import nothing, because no clock, random number
//! or variable of one container may become part of what all containers share. A component that calls an import is
//! refused, and the error names that import.

use grants::CodeSettings;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, Store};
use wasmtime_wizer::Wizer;

use crate::compile::{application, check, is_component, or_memory};
use crate::{Error, Layer, Runtime, allow, report};

/// The export that is called, without parameters and results. The name is that of Wizer.
const INITIALISE: &str = "wizer-initialize";

/// Limit of execution in Wasmtime's fuel, of which an instruction takes about one unit: some ten seconds. The worker may run
/// longer, but when its own time is up, it cannot report why.
const FUEL: u64 = 10_000_000_000;

impl Runtime {
    /// Returns the component after a call of its export `wizer-initialize`. Wizer accepts no component with modules inside of
    /// components, as compositions have them.
    ///
    /// # Errors
    /// [`Error::Initialise`] if there is no such export, or if it calls an import, traps or does not end. Those of reading the
    /// component.
    pub fn preinitialise(&self, layers: &[Layer], code: &CodeSettings) -> Result<Layer, Error> {
        if layers.len() > 1 {
            let reason = "it is composed of several layers, and only a single component can be";
            return Err(Error::Initialise(reason.into()));
        }
        let wasm = application(layers)?;
        if !is_component(&wasm) {
            return Err(Error::Initialise("it is a core module, and no component".into()));
        }
        // Wizer's sentence about a missing export lacks a word.
        let reason =
            |error: &_| report::one_line(error).replace(" does export ", " does not export ");
        let failed = |error| or_memory(error, |error| Error::Initialise(reason(&error)));
        check(&wasm, code)?;
        let snapshot = snapshot(&wasm, code).map_err(failed)?;
        if snapshot.len() as u64 > provided::WASM_BYTES {
            let (size, limit) = (snapshot.len(), provided::WASM_BYTES);
            let reason =
                format!("it has {size} bytes afterwards, and at most {limit} are compiled");
            return Err(Error::Initialise(reason));
        }
        let name = layers.first().map(|layer| layer.name.clone()).unwrap_or_default();
        Ok(Layer { name, wasm: snapshot })
    }
}

fn snapshot(wasm: &[u8], code: &CodeSettings) -> wasmtime::Result<Vec<u8>> {
    let engine = Engine::new(&config(code))?;
    let mut store = Store::new(&engine, ());
    store.set_fuel(FUEL)?;
    let mut wizer = Wizer::new();
    wizer.init_func(INITIALISE);
    let instantiate = async |store: &mut Store<()>, component: &Component| {
        let mut nothing = Linker::new(store.engine());
        nothing.define_unknown_imports_as_traps(component)?;
        nothing.instantiate_async(store, component).await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (snapshot, _) = runtime.block_on(wizer.run_component(&mut store, wasm, instantiate))?;
    Ok(snapshot)
}

/// Does not reserve the address space that makes guests fast, because a worker has little of it.
fn config(code: &CodeSettings) -> Config {
    let mut config = Config::new();
    allow(&mut config, code);
    config.consume_fuel(true).memory_reservation(0).memory_guard_size(0);
    config
}

#[cfg(test)]
mod tests {
    use grants::Names;

    use super::*;

    /// Counts what is initialised: `count` says how often.
    fn component(code: &str) -> Layer {
        let text = format!(
            r#"(component
                (import "wasi:random/random@0.2.0" (instance $random
                    (export "get-random-u64" (func (result u64)))))
                (core func $random (canon lower (func $random "get-random-u64")))
                (core instance $given (export "random" (func $random)))
                (core module $m
                    (import "given" "random" (func $random (result i64)))
                    (memory 1)
                    (global $times (mut i32) (i32.const 0))
                    (func (export "init")
                        (global.set $times (i32.add (global.get $times) (i32.const 1)))
                        (i32.store (i32.const 8) (i32.const 42)) {code})
                    (func (export "count") (result i32)
                        (i32.add (global.get $times) (i32.load (i32.const 8)))))
                (core instance $i (instantiate $m (with "given" (instance $given))))
                (func (export "wizer-initialize") (canon lift (core func $i "init")))
                (func (export "count") (result u32) (canon lift (core func $i "count"))))"#
        );
        Layer { name: "app".into(), wasm: text.into_bytes() }
    }

    fn refusal(code: &str) -> String {
        let runtime = Runtime::new().expect("a runtime");
        runtime
            .preinitialise(&[component(code)], &CodeSettings::default())
            .expect_err("is refused")
            .to_string()
    }

    #[test]
    fn what_is_initialised_is_part_of_what_is_compiled() {
        let (runtime, usual) = (Runtime::new().expect("a runtime"), CodeSettings::default());
        let made = runtime.preinitialise(&[component("")], &usual).expect("is initialised");
        let text = runtime.describe(std::slice::from_ref(&made), &usual).expect("is described");
        assert!(text.contains("count") && !text.contains(INITIALISE), "{text}");
        runtime.compile(&[made], Some("count"), &usual).expect("compiles");
    }

    #[test]
    fn what_is_not_there_yet_is_named_and_a_trap_is_told() {
        let text = refusal("(drop (call $random))");
        assert!(
            text.contains("wasi:random/random@0.2.0") && text.contains("get-random-u64"),
            "{text}"
        );
        assert!(refusal("unreachable").contains("unreachable"), "{}", refusal("unreachable"));
        assert!(refusal("(loop $again (br $again))").contains("fuel"));
    }

    #[test]
    fn what_it_may_use_of_webassembly_is_the_same_before_it_is_compiled() {
        let runtime = Runtime::new().expect("a runtime");
        let layers = [component("(i64.mul_wide_u (i64.const 1) (i64.const 2)) drop drop")];
        let refused = runtime.preinitialise(&layers, &CodeSettings::default());
        let error = refused.expect_err("is refused").to_string();
        let remedy = "off: wide-arithmetic; wasmtime.shim/features \"wasm3, wide-arithmetic\"";
        assert!(error.contains(remedy), "{error}");
        let entries = vec!["wide-arithmetic".parse().expect("is in the table")];
        let features = Names::of_image(Some(entries));
        let code = CodeSettings { features, ..CodeSettings::default() };
        let made = runtime.preinitialise(&layers, &code).expect("is initialised");
        runtime.compile(&[made], Some("count"), &code).expect("compiles");
    }

    #[test]
    fn without_the_export_it_is_said_which_one_is_meant() {
        let (runtime, usual) = (Runtime::new().expect("a runtime"), CodeSettings::default());
        for (text, reason) in [
            ("(component)", "does not export the function `wizer-initialize`"),
            ("(module)", "it is a core module"),
        ] {
            let layer = Layer { name: "app".into(), wasm: text.into() };
            let error =
                runtime.preinitialise(&[layer], &usual).expect_err("is refused").to_string();
            assert!(error.contains(reason), "{error}");
        }
        let layers = [component(""), component("")];
        let error = runtime.preinitialise(&layers, &usual).expect_err("is refused").to_string();
        assert!(error.contains("several layers"), "{error}");
    }
}
