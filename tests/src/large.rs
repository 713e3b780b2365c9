//! A guest that takes long to compile.

use wasm_encoder::{
    CodeSection, ExportKind, ExportSection, Function, FunctionSection, Module, TypeSection, ValType,
};

/// Instructions of each function.
const LENGTH: usize = 500;

/// Returns a module of WASI 0.1 that does nothing and has so many functions. Modules of different names differ.
pub fn module(name: &str, functions: usize) -> Vec<u8> {
    let mut types = TypeSection::new();
    types.ty().function([], []);
    types.ty().function([ValType::I32], [ValType::I32]);
    let mut exports = ExportSection::new();
    exports.export("_start", ExportKind::Func, 0).export(name, ExportKind::Func, 0);
    let mut start = Function::new([]);
    start.instructions().end();
    let mut body = Function::new([]);
    body.instructions().local_get(0);
    for _ in 0..LENGTH {
        body.instructions().i32_clz();
    }
    body.instructions().end();
    let (mut declared, mut code) = (FunctionSection::new(), CodeSection::new());
    declared.function(0);
    code.function(&start);
    for _ in 0..functions {
        declared.function(1);
        code.function(&body);
    }
    let mut module = Module::new();
    module.section(&types).section(&declared).section(&exports).section(&code);
    module.finish()
}
