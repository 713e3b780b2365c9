//! Turns a core module of WASI 0.1 into a component of WASI 0.2.
//!
//! This is for toolchains whose linker stops at the core module. Wasmtime's adapter answers the guest's calls of WASI
//! 0.1 by calls of WASI 0.2.

use anyhow::{Result, ensure};
use wasi_preview1_component_adapter_provider as adapter;
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

/// Encodes `module` as a component: a command if it exports `_start`, otherwise a library of exports.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    ensure!(!Parser::is_component(module), "it is a component already");
    ensure!(Parser::is_core_wasm(module), "it does not have the header of a WebAssembly module");
    let adapter_module = match exports(module, "_start")? {
        true => adapter::WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        false => adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
    };
    ComponentEncoder::default()
        .module(module)?
        .adapter(adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, adapter_module)?
        .validate(true)
        .encode()
}

/// Returns whether a core module has an export of that name.
fn exports(module: &[u8], name: &str) -> Result<bool> {
    for payload in Parser::new(0).parse_all(module) {
        let Payload::ExportSection(section) = payload? else {
            continue;
        };
        for export in section {
            if export?.name == name {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_becomes_a_component_that_can_be_run() {
        let module = wat::parse_str(
            r#"(module
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (func (export "_start") (call $exit (i32.const 3))))"#,
        );
        let component = componentize(&module.unwrap()).unwrap();
        assert!(Parser::is_component(&component));
        let run = b"wasi:cli/run@0.2";
        assert!(component.windows(run.len()).any(|it| it == run));
    }

    #[test]
    fn only_a_core_module_can_become_a_component() {
        let component = wat::parse_str("(component)").unwrap();
        let error = componentize(&component).unwrap_err();
        assert!(error.to_string().contains("already"), "{error}");
        assert!(componentize(b"hello").is_err());
    }
}
