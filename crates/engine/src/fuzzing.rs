//! Functions of this crate that only the fuzz targets call.
#![allow(clippy::expect_used, reason = "a panic is how a target reports")]

use std::sync::OnceLock;

use wasmtime::Engine;
use wasmtime::component::types::{ComponentFunc, ComponentItem};
use wasmtime::component::{Component, Val};

pub use crate::interfaces::keyvalue::in_redis::fuzzing::reply as redis;
use crate::wave;

/// Functions whose parameters are of each kind that a component has. None of them is called.
const FUNCTIONS: &str = r#"(component
    (core module $m
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
        (func (export "numbers") (param i32 i64 f32 f64))
        (func (export "texts") (param i32 i32 i32 i32))
        (func (export "named") (param i32 i32 i32 i32 i32 i32 i64 i32 i32 i32))
        (func (export "nested") (param i32 i32 i32 i32)))
    (core instance $i (instantiate $m))
    (alias core export $i "memory" (core memory $memory))
    (alias core export $i "realloc" (core func $realloc))
    (type $record' (record (field "id" u32) (field "name" string) (field "tags" (list string))))
    (export $record "record" (type $record'))
    (type $variant' (variant (case "none") (case "number" s64) (case "text" string)))
    (export $variant "variant" (type $variant'))
    (type $flags' (flags "read" "write" "run"))
    (export $flags "flags" (type $flags'))
    (type $enum' (enum "low" "high"))
    (export $enum "enum" (type $enum'))
    (func (export "numbers") (param "a" u8) (param "b" s64) (param "c" f32) (param "d" f64)
        (canon lift (core func $i "numbers")))
    (func (export "texts") (param "a" char) (param "b" string) (param "c" bool)
        (canon lift (core func $i "texts") (memory $memory) (realloc $realloc)))
    (func (export "named") (param "a" $record) (param "b" $variant) (param "c" $flags) (param "d" $enum)
        (canon lift (core func $i "named") (memory $memory) (realloc $realloc)))
    (func (export "nested") (param "a" (option (result (list (tuple u8 string)) (error bool))))
        (canon lift (core func $i "nested") (memory $memory) (realloc $realloc))))"#;

/// Has each function take the text's lines as its arguments. What is taken is written as text that is taken as the same.
pub fn wave(text: &str) {
    let args: Vec<String> = text.lines().map(str::to_owned).collect();
    for (name, function) in functions() {
        let Ok(values) = wave::arguments(name, function, &args) else { continue };
        let shown: Vec<String> = values.iter().map(shown).collect();
        let again = wave::arguments(name, function, &shown).expect("what is shown is taken");
        assert_eq!(shown, again.iter().map(self::shown).collect::<Vec<_>>());
    }
}

/// A value alone; a function's result without a value is not shown by itself.
fn shown(value: &Val) -> String {
    wave::shown(Some(value)).unwrap_or_else(|| match value {
        Val::Result(Ok(_)) => "ok".to_owned(),
        _ => "err".to_owned(),
    })
}

fn functions() -> &'static [(String, ComponentFunc)] {
    static FUNCTIONS_OF: OnceLock<Vec<(String, ComponentFunc)>> = OnceLock::new();
    FUNCTIONS_OF.get_or_init(|| {
        let engine =
            Engine::new(&crate::config(&grants::CodeSettings::default())).expect("an engine");
        let component = Component::new(&engine, FUNCTIONS).expect("a component");
        let ty = component.component_type();
        let exports = ty.exports(&engine);
        let functions = exports.filter_map(|(name, item)| match item.ty {
            ComponentItem::ComponentFunc(function) => Some((name.to_owned(), function)),
            _ => None,
        });
        functions.collect()
    })
}
