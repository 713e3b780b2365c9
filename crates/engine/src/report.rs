//! Report of a guest's end: an exit code, and a text on its stderr if the guest failed.

use std::fmt::{self, Display, Formatter};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use grants::quantity::Fuel;
use grants::{Giver, Limit};
use plan::exit_code::{CANNOT_RUN, LIMIT_REACHED, TRAPPED};
use provided::FUEL;
use wasmtime::{ThrownException, Trap, WasmBacktrace, WasmCoreDump};
use wasmtime_wasi::I32Exit;

use crate::{Error, host_calls, output};

/// The limit of the fuel, and who gave it. Not set if there is none.
static FUEL_LIMIT: OnceLock<(Fuel, Giver)> = OnceLock::new();

/// Records how much fuel the guest of this process has, for the report of its end. To be called once, before its first instance.
pub fn grant_fuel(limit: &Limit<Fuel>) {
    if let Some(granted) = limit.get() {
        let _ = FUEL_LIMIT.set(granted);
    }
}

/// An error and its causes on one line, for Create's error.
pub fn one_line(error: &wasmtime::Error) -> String {
    text::on_one_line(&causes(error).join(": "))
}

/// The exit code of a run that ended in an error, and the text to log.
pub fn outcome(error: &wasmtime::Error) -> (u8, Option<String>) {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        // As wait(2) keeps it of a native program.
        return ((code & 0xff) as u8, None);
    }
    let code = match error.downcast_ref::<Error>() {
        Some(error) => error.exit_code(),
        None if is_out_of_fuel(error) => LIMIT_REACHED,
        None if is_trap(error) => TRAPPED,
        None => CANNOT_RUN,
    };
    (code, Some(text(error)))
}

/// An error of a call into a guest, as the trap that it is: if a result is not a value of its type, the call traps (component
/// model, CanonicalABI.md, "Lifting"), but Wasmtime returns an error that looks like one of the embedder.
pub fn trapped(error: wasmtime::Error) -> wasmtime::Error {
    match error.is::<I32Exit>() || is_trap(&error) {
        true => error,
        false => error.context(Lifted),
    }
}

/// The beginning of such an error's text, as of Wasmtime's traps.
#[derive(Debug)]
struct Lifted;

impl Display for Lifted {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str("wasm trap")
    }
}

/// A failure, for the log: the cause first, then where.
pub fn text(error: &wasmtime::Error) -> String {
    let cause = match is_out_of_fuel(error) {
        true => out_of_fuel(FUEL_LIMIT.get().copied()),
        false => causes(error).join(": "),
    };
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return format!("error: {cause}");
    };
    let last = host_calls::last().map(|name| format!("last host call: {name}\n"));
    format!("error: {cause}\n{}{backtrace}", last.unwrap_or_default())
}

fn out_of_fuel(limit: Option<(Fuel, Giver)>) -> String {
    let limit = limit.map(|(most, giver)| format!(" of {most} ({}, {})", giver.place(), FUEL.key));
    format!("the guest has used up its fuel{}", limit.unwrap_or_default())
}

/// Writes a text to stderr. Errors are ignored: without a reader there is nowhere to report them.
pub fn log(text: &str) {
    output::log_on_stderr(text.trim_end().as_bytes());
}

/// The same for a text about a request of a server. It counts as lines of the guest: clients decide how many requests fail, and
/// the guest chooses the names in a backtrace.
pub fn log_of_request(text: &str) {
    output::log_at_rate_on_stderr(text.trim_end().as_bytes());
}

/// Writes a panic to stderr, which is the container's in a guest's process. Models of a guest can cause many (`wasi:nn`).
pub fn log_panic(panic: &PanicHookInfo<'_>) {
    log_of_request(&text::on_one_line(&format!("error: {panic}")));
}

/// The chain of an error: what failed, then why. Wasmtime puts a trap's backtrace and core dump before the trap.
fn causes(error: &wasmtime::Error) -> Vec<String> {
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
    let dump = error.downcast_ref::<WasmCoreDump>().map(ToString::to_string);
    let is_reason = |cause: &String| {
        [&backtrace, &dump].into_iter().flatten().all(|text| !cause.contains(text.trim_end()))
    };
    let mut causes: Vec<String> =
        error.chain().map(ToString::to_string).filter(is_reason).collect();
    // Some errors repeat their cause in their own text.
    causes.dedup_by(|cause, effect| effect.contains(cause.as_str()));
    if causes.is_empty() { vec!["the guest failed".to_owned()] } else { causes }
}

fn is_out_of_fuel(error: &wasmtime::Error) -> bool {
    error.downcast_ref::<Trap>() == Some(&Trap::OutOfFuel)
}

fn is_trap(error: &wasmtime::Error) -> bool {
    error.is::<Trap>()
        || error.is::<ThrownException>()
        || error.is::<WasmBacktrace>()
        || error.is::<Lifted>()
}

#[cfg(test)]
mod tests {
    use wasmtime::{Instance, Module, Store};

    use super::*;
    use crate::Runtime;

    #[test]
    fn an_exit_is_no_failure_and_keeps_its_low_byte() {
        assert_eq!(outcome(&I32Exit(3).into()), (3, None));
        assert_eq!(outcome(&I32Exit(255).into()), (255, None));
        assert_eq!(outcome(&I32Exit(256).into()), (0, None));
    }

    #[test]
    fn a_trap_is_told_with_its_code_its_cause_first_and_the_names_of_functions() {
        let engine = Runtime::new().expect("a runtime").engine;
        let module = r#"(module
            (func $inner unreachable)
            (func $outer (export "run") call $inner))"#;
        let module = Module::new(&engine, module).expect("compiles");
        let mut store = Store::new(&engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("instantiates");
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").expect("is there");
        let (code, text) = outcome(&run.call(&mut store, ()).expect_err("traps"));
        let text = text.expect("a text");
        assert_eq!(code, TRAPPED);
        assert!(text.starts_with("error: wasm trap: wasm `unreachable`"), "{text}");
        let inner = text.find("inner").expect("the innermost function");
        assert!(inner < text.find("outer").expect("its caller"), "{text}");
        assert_eq!(text.matches("backtrace").count(), 1, "{text}");
    }

    #[test]
    fn what_cannot_run_is_distinguished_from_what_is_not_there() {
        let missing = Error::Export { wanted: "a".into(), found: "b".into() };
        assert_eq!(outcome(&missing.into()).0, 127);
        let other = wasmtime::Error::msg("no such directory").context("open /work");
        let text = "error: open /work: no such directory".to_owned();
        assert_eq!(outcome(&other), (126, Some(text)));
    }
}
