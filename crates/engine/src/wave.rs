//! Calls of an export with arguments. Arguments and results are text in WAVE (WebAssembly Value Encoding, the component
//! model's own notation for values, as in WIT: `42`, `"text"`, `[1, 2]`, `{name: "x"}`, `some(1)`).

use wasmtime::component::types::ComponentFunc;
use wasmtime::component::wasm_wave::untyped::UntypedFuncCall;
use wasmtime::component::wasm_wave::wasm::{DisplayType, DisplayValue};
use wasmtime::component::{Type, Val};

use crate::Error;

/// A function as WIT has it: `get-user: func(id: u32) -> string`.
pub fn signature(name: &str, function: &ComponentFunc) -> String {
    let params = function.params().map(|(name, ty)| format!("{name}: {}", DisplayType(&ty)));
    let params = params.collect::<Vec<_>>().join(", ");
    let results = function.results().map(|ty| format!(" -> {}", DisplayType(&ty)));
    format!("{name}: func({params}){}", results.collect::<String>())
}

/// The values that `args`, a literal each, stand for. A function without parameters leaves the args to the guest.
///
/// # Errors
/// [`Error::Arguments`], with the column, when they do not parse or are not what the function takes.
pub fn arguments(name: &str, function: &ComponentFunc, args: &[String]) -> Result<Vec<Val>, Error> {
    let types: Vec<Type> = function.params().map(|(_, ty)| ty).collect();
    if types.is_empty() {
        return Ok(Vec::new());
    }
    // The name of an export of an interface is none that WAVE knows.
    let prefix = "f(";
    let parsed = UntypedFuncCall::parse(&format!("{prefix}{})", args.join(SEPARATOR)))
        .and_then(|call| call.to_wasm_params(&types));
    parsed.map_err(|error| {
        let (argument, column) = position(args, error.span().start.saturating_sub(prefix.len()));
        let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
        Error::Arguments { argument, column, reason, signature: signature(name, function) }
    })
}

/// Text between two arguments when they are parsed as one text.
pub const SEPARATOR: &str = ", ";

/// Argument and column in it, both from 1, of a byte in the joined arguments. What is after the last is its end.
pub fn position(args: &[String], byte: usize) -> (usize, usize) {
    let mut rest = byte;
    for (index, arg) in args.iter().enumerate() {
        let is_last = index + 1 == args.len();
        if is_last || rest < arg.len() + SEPARATOR.len() {
            return (index + 1, rest.min(arg.len()) + 1);
        }
        rest -= arg.len() + SEPARATOR.len();
    }
    (1, 1)
}

/// The text of what a function returned; none for nothing, and for a `result` that carries nothing.
pub fn shown(result: Option<&Val>) -> Option<String> {
    let bare = |value: &&Val| matches!(value, Val::Result(Ok(None) | Err(None)));
    result.filter(|value| !bare(value)).map(|value| DisplayValue(value).to_string())
}
