//! From bytes nobody has vouched for to code: runs in a worker without privileges.

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

use crate::{Error, Runtime, World, report, world};

/// A guest that can run.
#[derive(Debug)]
pub struct Compiled {
    /// How.
    pub world: World,
    /// Wasmtime's serialized form, for [`Runtime::run`] of the same version.
    pub code: Vec<u8>,
}

/// Length of magic, version and layer, and the layer field that says component (component model, Binary.md).
const PREAMBLE_BYTES: usize = 8;
const LAYER_COMPONENT: [u8; 2] = [1, 0];

impl Runtime {
    /// Compiles a module or component, binary or text, and checks that it can be linked and has an entry:
    /// the world's own, or `export`.
    ///
    /// # Errors
    /// [`Error::Invalid`], [`Error::Precompiled`], [`Error::Import`], [`Error::Export`], [`Error::SeveralLayers`].
    pub fn compile(&self, layers: &[Vec<u8>], export: Option<&str>) -> Result<Compiled, Error> {
        let [layer] = layers else {
            return Err(Error::SeveralLayers(layers.len()));
        };
        if Engine::detect_precompiled(layer).is_some() {
            return Err(Error::Precompiled);
        }
        let wasm = wat::parse_bytes(layer).map_err(|error| Error::Invalid(error.to_string()))?;
        if wasm.get(PREAMBLE_BYTES - LAYER_COMPONENT.len()..PREAMBLE_BYTES)
            == Some(&LAYER_COMPONENT)
        {
            self.compile_component(&wasm, export)
        } else {
            self.compile_module(&wasm, export)
        }
    }

    fn compile_component(&self, wasm: &[u8], export: Option<&str>) -> Result<Compiled, Error> {
        let component = Component::from_binary(&self.engine, wasm).map_err(invalid)?;
        self.components.instantiate_pre(&component).map_err(import)?;
        let world = world::of_component(&self.engine, &component, export)?;
        Ok(Compiled { world, code: component.serialize().map_err(invalid)? })
    }

    fn compile_module(&self, wasm: &[u8], export: Option<&str>) -> Result<Compiled, Error> {
        let module = Module::from_binary(&self.engine, wasm).map_err(invalid)?;
        self.modules.instantiate_pre(&module).map_err(import)?;
        let world = world::of_module(&module, export)?;
        Ok(Compiled { world, code: module.serialize().map_err(invalid)? })
    }
}

fn invalid(error: wasmtime::Error) -> Error {
    Error::Invalid(report::one_line(&error))
}

fn import(error: wasmtime::Error) -> Error {
    Error::Import { reason: report::one_line(&error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(source: &[u8], export: Option<&str>) -> Result<World, Error> {
        let runtime = Runtime::new().expect("a runtime");
        runtime.compile(&[source.to_vec()], export).map(|compiled| compiled.world)
    }

    fn refusal(source: &[u8], export: Option<&str>) -> String {
        compile(source, export).expect_err("is refused").to_string()
    }

    #[test]
    fn a_module_with_a_start_is_a_command() {
        let world = compile(br#"(module (func (export "_start")))"#, None).expect("compiles");
        assert_eq!(world, World::Module);
    }

    #[test]
    fn a_missing_export_is_told_with_those_there_are() {
        let module = br#"(module (func (export "greet")) (func (export "add") (param i32)))"#;
        assert_eq!(compile(module, Some("greet")).expect("compiles"), World::Module);
        let text = refusal(module, Some("nope"));
        assert!(text.contains("\"nope\"") && text.ends_with("there are: greet"), "{text}");
        assert!(refusal(module, None).contains("_start"));
    }

    #[test]
    fn an_import_nobody_provides_is_named_with_its_version() {
        let component =
            br#"(component (import "acme:db/query@1.0.0" (instance (export "get" (func)))))"#;
        let text = refusal(component, None);
        assert!(text.contains("acme:db/query@1.0.0"), "{text}");
        let text = refusal(br#"(module (import "env" "f" (func)))"#, None);
        assert!(text.contains("env::f"), "{text}");
    }

    #[test]
    fn damaged_wasm_is_told_with_the_place() {
        let wasm = wat::parse_str(r#"(module (func (export "_start")))"#).expect("parses");
        let text = refusal(&wasm[..wasm.len() - 3], None);
        assert!(text.contains("offset"), "{text}");
        assert!(refusal(b"\0asm\x01\0\0\0junk", None).contains("not valid"));
        assert!(refusal(b"(module (func", None).contains("not valid"));
    }

    #[test]
    fn code_compiled_elsewhere_is_refused() {
        let runtime = Runtime::new().expect("a runtime");
        let module = br#"(module (func (export "_start")))"#.to_vec();
        let code = runtime.compile(&[module], None).expect("compiles").code;
        assert!(refusal(&code, None).contains("precompiled"));
    }

    #[test]
    fn the_world_of_a_component_is_read_from_its_exports() {
        let run = br#"(component
            (core module $m (func (export "run") (result i32) i32.const 0))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $run-instance (export "run" (func $run)))
            (export "wasi:cli/run@0.2.3" (instance $run-instance)))"#;
        assert_eq!(compile(run, None).expect("compiles"), World::Command02);
        let text = refusal(b"(component)", None);
        assert!(text.contains("wasi:cli/run") && text.ends_with("there are: none"), "{text}");
    }
}
