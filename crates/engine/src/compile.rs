//! Compiles untrusted bytes to code, in a worker without privileges.

use std::borrow::Cow;
use std::io;

use grants::{CodeSettings, Package};
use nix::libc::ENOMEM;
use provided::wasm::Refusal;
use serde::{Deserialize, Serialize};
use wasmtime::component::Component;
use wasmtime::error::OutOfMemory;
use wasmtime::{Engine, Module};

use crate::serving::{Data, Serving};
use crate::{Error, Runtime, World, compressed, interfaces, report, world};

/// A compiled guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compiled {
    /// How it is run.
    pub world: World,
    /// What it imports that it must be offered.
    pub packages: Vec<Package>,
    /// Wasmtime's serialized form, for [`Runtime::load`] of the same version on a machine with the same features.
    pub code: Vec<u8>,
}

/// A layer of an image, from which a guest is compiled.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Name for errors about several layers.
    pub name: String,
    /// Module or component, in binary or text form.
    pub wasm: Vec<u8>,
}

/// Largest size of all layers together, in bytes, after decompression.
const WASM_BYTES: usize = provided::WASM_BYTES as usize;

/// Beginning of native code, and of Wasmtime's own `.cwasm` (ELF, "File header").
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Beginning of WebAssembly (core specification, "Binary modules").
const WASM_MAGIC: &[u8] = b"\0asm";

/// Length of magic, version and layer, and the value of the layer for a component (component model, Binary.md).
const PREAMBLE_BYTES: usize = 8;
const LAYER_COMPONENT: [u8; 2] = [1, 0];

impl Runtime {
    /// Compiles a module or component, in binary or text form, and checks that it can be linked and has an entry: that of its
    /// world, or `export`. `layers[0]` is the application. The others are components that satisfy its imports, and are composed
    /// with it.
    ///
    /// # Errors
    /// [`Error::Compose`], [`Error::Precompiled`], [`Error::NotWasm`], [`Error::Wasm`], [`Error::Off`], [`Error::Compile`],
    /// [`Error::Import`], [`Error::Export`], [`Error::World`].
    pub fn compile(
        &self,
        layers: &[Layer],
        export: Option<&str>,
        code: &CodeSettings,
    ) -> Result<Compiled, Error> {
        let wasm = application(layers)?;
        // Wasmtime would compile it, and would fail at instantiation.
        if provided::wasm::has_shared_memory(&wasm) {
            return Err(Refusal::SharedMemory.into());
        }
        let other = other(&wasm, code)?;
        let runtime = other.as_ref().unwrap_or(self);
        if is_component(&wasm) {
            runtime.compile_component(&wasm, export, code)
        } else {
            runtime.compile_module(&wasm, export, code)
        }
    }

    /// Describes what a guest imports and exports, in lines of WIT notation. For a module, these are names.
    ///
    /// # Errors
    /// As [`Runtime::compile`], except for imports and exports.
    pub fn describe(&self, layers: &[Layer], code: &CodeSettings) -> Result<String, Error> {
        let wasm = application(layers)?;
        let other = other(&wasm, code)?;
        let engine = &other.as_ref().unwrap_or(self).engine;
        let refused = refused(&wasm, code);
        if is_component(&wasm) {
            let component = Component::from_binary(engine, &wasm).map_err(refused)?;
            return Ok(world::describe_component(engine, &component));
        }
        let module = Module::from_binary(engine, &wasm).map_err(refused)?;
        Ok(world::describe_module(&module))
    }

    fn compile_component(
        &self,
        wasm: &[u8],
        export: Option<&str>,
        code: &CodeSettings,
    ) -> Result<Compiled, Error> {
        let serving = match export.is_none() && world::serves_http(wasm) {
            true => Some(Serving::to_compile(Data::of(wasm), code).map_err(engine_error)?),
            false => None,
        };
        let own = (&self.engine, &self.components);
        let (engine, linker) = serving.as_ref().map_or(own, |it| (&it.engine, &it.linker));
        let component = Component::from_binary(engine, wasm).map_err(refused(wasm, code))?;
        let packages = interfaces::packages(&component);
        let linker = interfaces::imported(linker, &component).map_err(engine_error)?;
        let linked = linker.instantiate_pre(&component);
        let linked = linked.map_err(import(PROVIDED_TO_COMPONENTS))?;
        let world = world::of_component(engine, &component, export)?;
        world::check(world, linked)?;
        Ok(Compiled { world, packages, code: component.serialize().map_err(failed)? })
    }

    fn compile_module(
        &self,
        wasm: &[u8],
        export: Option<&str>,
        code: &CodeSettings,
    ) -> Result<Compiled, Error> {
        let module = Module::from_binary(&self.engine, wasm).map_err(refused(wasm, code))?;
        self.modules.instantiate_pre(&module).map_err(import(PROVIDED_TO_MODULES))?;
        let world = world::of_module(&module, export)?;
        Ok(Compiled { world, packages: vec![], code: module.serialize().map_err(failed)? })
    }
}

/// Returns an engine for code with these settings, if the usual engine cannot compile it. It may allow more than the guest
/// may use, so the guest is checked first.
fn other(wasm: &[u8], code: &CodeSettings) -> Result<Option<Runtime>, Error> {
    if code.is_usual() {
        return Ok(None);
    }
    check(wasm, code)?;
    Runtime::of(code).map(Some).map_err(engine_error)
}

/// Returns the binary form of a single layer, or of the composition of several.
pub fn application(layers: &[Layer]) -> Result<Cow<'_, [u8]>, Error> {
    if let [layer] = layers {
        let wasm = binary(unpacked(layer, WASM_BYTES)?)?;
        // Later parsers are recursive, and their stack is limited.
        return match compose::is_too_deep(&wasm) {
            true => Err(compose::Error::Deep(layer.name.clone()).into()),
            false => Ok(wasm),
        };
    }
    let mut left = WASM_BYTES;
    let mut part = |layer| {
        let wasm = unpacked(layer, left)?;
        left = left.saturating_sub(wasm.len());
        binary(wasm)
    };
    let wasm: Vec<_> = layers.iter().map(&mut part).collect::<Result<_, _>>()?;
    let named = layers.iter().zip(&wasm);
    let named: Vec<_> =
        named.map(|(layer, wasm)| compose::Layer { name: &layer.name, wasm }).collect();
    Ok(Cow::Owned(compose::compose(&named, &provided::interfaces())?.wasm))
}

pub fn is_component(wasm: &[u8]) -> bool {
    let layer = PREAMBLE_BYTES - LAYER_COMPONENT.len()..PREAMBLE_BYTES;
    wasm.get(layer) == Some(&LAYER_COMPONENT)
}

/// Unpacks a layer, if it is compressed, to at most `limit` bytes.
fn unpacked(layer: &Layer, limit: usize) -> Result<Cow<'_, [u8]>, Error> {
    match compressed::is_compressed(&layer.wasm) {
        true => compressed::unpacked(&layer.wasm, limit).map(Cow::Owned),
        false => Ok(Cow::Borrowed(&layer.wasm)),
    }
}

/// Returns the binary form of an image's wasm.
fn binary(layer: Cow<'_, [u8]>) -> Result<Cow<'_, [u8]>, Error> {
    if layer.starts_with(ELF_MAGIC) || Engine::detect_precompiled(&layer).is_some() {
        return Err(Error::Precompiled);
    }
    if layer.starts_with(WASM_MAGIC) {
        return Ok(layer);
    }
    let text = std::str::from_utf8(&layer).map_err(|_| not_wasm(&layer))?;
    // Every text begins with an expression, or a comment before it (core specification, "Text format").
    if !text.trim_start().starts_with(['(', ';']) {
        return Err(not_wasm(&layer));
    }
    wat::parse_str(text)
        .map(Cow::Owned)
        .map_err(|error| Refusal::Invalid(text::on_one_line(&error.to_string())).into())
}

/// Bytes that are shown of a file that is not wasm, so that a reader recognises what it is.
const SHOWN_BYTES: usize = 8;

fn not_wasm(layer: &[u8]) -> Error {
    Error::NotWasm(layer[..layer.len().min(SHOWN_BYTES)].escape_ascii().to_string())
}

fn engine_error(error: wasmtime::Error) -> Error {
    or_memory(error, |error| Error::Engine(report::one_line(&error)))
}

/// Returns the error for wasm that Wasmtime does not compile: the fault of the wasm, or else Wasmtime's own reason.
fn refused(wasm: &[u8], code: &CodeSettings) -> impl Fn(wasmtime::Error) -> Error {
    move |error| match failed(error) {
        Error::Memory => Error::Memory,
        other => check(wasm, code).err().unwrap_or(other),
    }
}

/// Checks that wasm is valid, and uses nothing that is off.
pub fn check(wasm: &[u8], code: &CodeSettings) -> Result<(), Error> {
    provided::wasm::check(wasm, code.features()).map_err(|refusal| match refusal {
        Refusal::Off(off) => Error::Off { refusal, remedy: code.remedy(off) },
        other => other.into(),
    })
}

fn failed(error: wasmtime::Error) -> Error {
    or_memory(error, |error| Error::Compile(report::one_line(&error)))
}

/// Returns the error for a lack of memory if an allocation or a mapping failed, or else the other error.
pub fn or_memory(error: wasmtime::Error, other: impl FnOnce(wasmtime::Error) -> Error) -> Error {
    let not_mapped = io::Error::from_raw_os_error(ENOMEM).to_string();
    let is_unmapped = || error.chain().any(|cause| cause.to_string() == not_mapped);
    match error.is::<OutOfMemory>() || is_unmapped() {
        true => Error::Memory,
        false => other(error),
    }
}

/// Interfaces of the linkers, for the error about a missing import.
const PROVIDED_TO_COMPONENTS: &str = "wasi:cli, clocks, filesystem, http, random and sockets of 0.2 and 0.3, wasi:io of 0.2, and drafts of wasi:config, \
     keyvalue, logging and tls";
const PROVIDED_TO_MODULES: &str = "wasi_snapshot_preview1 (WASI 0.1)";

fn import(provided: &'static str) -> impl Fn(wasmtime::Error) -> Error {
    move |error| {
        or_memory(error, |error| Error::Import { reason: report::one_line(&error), provided })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(name: &str, wasm: &[u8]) -> Layer {
        Layer { name: name.into(), wasm: wasm.to_vec() }
    }

    fn compile(source: &[u8], export: Option<&str>) -> Result<World, Error> {
        let runtime = Runtime::new().expect("a runtime");
        let compiled = runtime.compile(&[layer("app", source)], export, &CodeSettings::default());
        compiled.map(|compiled| compiled.world)
    }

    fn refusal(source: &[u8], export: Option<&str>) -> (u8, String) {
        let error = compile(source, export).expect_err("is refused");
        (error.exit_code(), error.to_string())
    }

    #[test]
    fn a_module_with_a_start_is_a_command() {
        let module = br#";; text (module (func (export "_start")))"#;
        let module = [b"\n".as_slice(), &module[8..]].concat();
        assert_eq!(compile(&module, None).expect("compiles"), World::Module);
        let module = wat::parse_bytes(&module).expect("parses");
        assert_eq!(compile(&module, None).expect("compiles"), World::Module);
    }

    #[test]
    fn a_missing_export_is_told_with_those_there_are() {
        let module = br#"(module
            (func (export "_initialize"))
            (func (export "greet"))
            (func (export "add") (param i32 i64) (result i32) (local.get 0))
            (func (export "of-nobody") (param externref)))"#;
        for callable in ["greet", "add"] {
            assert_eq!(compile(module, Some(callable)).expect("compiles"), World::Module);
        }
        for name in ["nope", "_initialize", "of-nobody"] {
            let (code, text) = refusal(module, Some(name));
            assert_eq!(code, 127);
            assert!(text.contains(&format!("{name:?}")), "{text}");
            assert!(text.ends_with("allowed is greet(), add(i32, i64) -> i32"), "{text}");
        }
        let (code, text) = refusal(module, None);
        assert_eq!(code, 127);
        assert!(
            text.starts_with("there is no export _start, by which the guest would run"),
            "{text}"
        );
        let end = "such as \"PATH#greet\"; allowed is greet(), add(i32, i64) -> i32";
        assert!(text.ends_with(end), "{text}");
        let text = refusal(b"(module)", None).1;
        assert!(text.contains("cannot call \"_start\"") && text.ends_with("is none"), "{text}");
    }

    #[test]
    fn an_import_nobody_provides_is_named_with_its_version() {
        let component =
            br#"(component (import "acme:db/query@1.0.0" (instance (export "get" (func)))))"#;
        let (code, text) = refusal(component, None);
        assert_eq!(code, 126);
        assert!(text.contains("acme:db/query@1.0.0") && text.contains("wasi:cli"), "{text}");
        let (_, text) = refusal(br#"(module (import "env" "f" (func)))"#, None);
        assert!(text.contains("env::f") && text.contains("wasi_snapshot_preview1"), "{text}");
    }

    #[test]
    fn damaged_wasm_is_told_with_the_place() {
        let wasm = wat::parse_str(r#"(module (func (export "_start")))"#).expect("parses");
        let (code, text) = refusal(&wasm[..wasm.len() - 3], None);
        assert_eq!(code, 126);
        assert!(text.contains("offset 0x"), "{text}");
        assert!(refusal(b"\0asm\x01\0\0\0junk", None).1.contains("not valid"));
        let (_, text) = refusal(b"(module (func", None);
        assert!(text.contains("1:14") && !text.contains('\n'), "{text}");
    }

    #[test]
    fn what_is_valid_and_not_supported_is_told_by_the_name_of_its_proposal() {
        let (code, text) = refusal(b"(module (func try catch_all end))", None);
        assert_eq!(code, 126);
        assert!(text.contains("legacy-exceptions") && !text.contains("not valid"), "{text}");
        let shared: &[u8] = br#"(module (memory 1 1 shared) (func (export "_start")))"#;
        let (code, text) = refusal(shared, None);
        assert_eq!(code, 126);
        assert!(text.contains("shared memory") && text.contains("without threads"), "{text}");
    }

    #[test]
    fn what_fails_for_want_of_memory_is_not_told_of_the_image() {
        let mapping = wasmtime::Error::from(io::Error::from_raw_os_error(ENOMEM)).context("map");
        let allocation = wasmtime::Error::from(OutOfMemory::new(8)).context("parse");
        for error in [mapping, allocation] {
            assert!(matches!(failed(error), Error::Memory));
        }
        assert!(matches!(failed(wasmtime::Error::msg("offset 0x1")), Error::Compile(_)));
    }

    #[test]
    fn an_interface_of_types_alone_is_of_nobody() {
        let component = br#"(component
            (import "acme:shop/types@1.0.0" (instance
                (type $kind (enum "net" "gross")) (export "kind" (type (eq $kind)))))
            (core module $m (func (export "greet")))
            (core instance $i (instantiate $m))
            (func (export "greet") (canon lift (core func $i "greet"))))"#;
        assert_eq!(compile(component, Some("greet")).expect("compiles"), World::Export);
    }

    #[test]
    fn components_that_lie_in_each_other_without_end_are_told() {
        let mut wasm = b"\0asm\x0d\0\x01\0".to_vec();
        for _ in 0..2000 {
            // Header of a component's section (component model, Binary.md), with its size in three bytes.
            let size = wasm.len();
            let size = [size as u8 | 0x80, (size >> 7) as u8 | 0x80, (size >> 14) as u8];
            wasm = [b"\0asm\x0d\0\x01\0\x04".as_slice(), &size, &wasm].concat();
        }
        let (code, text) = refusal(&wasm, None);
        assert_eq!(code, 126);
        assert!(text.contains("app nests components or types more than"), "{text}");
    }

    #[test]
    fn what_is_no_wasm_at_all_is_told_apart_from_damaged_wasm() {
        for source in [b"".as_slice(), b"#!/bin/sh\n", b"\x1f\x8b\x08\0\xff\xff"] {
            let (code, text) = refusal(source, None);
            assert_eq!(code, 126);
            assert!(text.contains("not wasm"), "{text}");
        }
        assert!(refusal(b"#!/bin/sh\n", None).1.contains("#!/bin/s"));
    }

    #[test]
    fn code_compiled_elsewhere_is_refused() {
        let runtime = Runtime::new().expect("a runtime");
        let module = layer("app", br#"(module (func (export "_start")))"#);
        let code =
            runtime.compile(&[module], None, &CodeSettings::default()).expect("compiles").code;
        assert!(refusal(&code, None).1.contains("precompiled"));
        assert!(refusal(b"\x7fELF\x02\x01\x01", None).1.contains("native"));
    }

    const APPLICATION: &[u8] = br#"(component
        (import "acme:db/query@1.0.0" (instance $db (export "get" (func (result (result))))))
        (alias export $db "get" (func $get))
        (instance $command (export "run" (func $get)))
        (export "wasi:cli/run@0.2.3" (instance $command)))"#;

    const QUERY: &[u8] = br#"(component
        (core module $m (func (export "get") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $get (result (result)) (canon lift (core func $i "get")))
        (instance $query (export "get" (func $get)))
        (export "acme:db/query@1.0.1" (instance $query)))"#;

    #[test]
    fn several_layers_are_composed_and_compiled_as_one() {
        let runtime = Runtime::new().expect("a runtime");
        let layers = [layer("app", APPLICATION), layer("db", QUERY)];
        let compiled = runtime.compile(&layers, None, &CodeSettings::default()).expect("compiles");
        assert_eq!(compiled.world, World::Command02);
        let text = runtime.describe(&layers, &CodeSettings::default()).expect("is described");
        assert!(!text.contains("acme:db") && text.contains("export wasi:cli/run@0.2.3"), "{text}");

        let twice = [layers[0].clone(), layers[0].clone()];
        let error = runtime.compile(&twice, None, &CodeSettings::default());
        let error = error.expect_err("is refused");
        assert_eq!(error.exit_code(), 126);
        assert!(error.to_string().starts_with("app imports acme:db/query@1.0.0"), "{error}");
        let text = runtime
            .compile(&[], None, &CodeSettings::default())
            .expect_err("is refused")
            .to_string();
        assert!(text.contains("no component"), "{text}");
    }
}
