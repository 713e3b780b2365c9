//! How a guest's end is told: an exit code, and for a failure a text on its stderr.

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::{CANNOT_RUN, TRAPPED};

/// An error and its causes on one line, for Create's error.
pub fn one_line(error: &wasmtime::Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ").replace('\n', " ")
}

/// The exit code of a run that ended in an error, and what to tell.
pub fn outcome(error: &wasmtime::Error) -> (u8, Option<String>) {
    if let Some(I32Exit(code)) = error.downcast_ref() {
        // As wait(2) keeps it of a native program.
        return ((code & 0xff) as u8, None);
    }
    let code = if is_trap(error) { TRAPPED } else { CANNOT_RUN };
    (code, Some(text(error)))
}

/// A failure, for the log: the cause first, then where.
pub fn text(error: &wasmtime::Error) -> String {
    // The chain is: backtrace, then the trap or the host's error. Readers want it the other way round.
    let backtrace = error.downcast_ref::<WasmBacktrace>().map(ToString::to_string);
    let causes: Vec<String> = error
        .chain()
        .map(ToString::to_string)
        .filter(|cause| {
            backtrace.as_ref().is_none_or(|backtrace| !cause.contains(backtrace.as_str()))
        })
        .collect();
    let cause = if causes.is_empty() { "the guest failed".to_owned() } else { causes.join(": ") };
    match backtrace {
        Some(backtrace) => format!("error: {cause}\n{backtrace}"),
        None => format!("error: {cause}"),
    }
}

fn is_trap(error: &wasmtime::Error) -> bool {
    error.downcast_ref::<Trap>().is_some() || error.downcast_ref::<WasmBacktrace>().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_is_no_failure_and_keeps_its_low_byte() {
        assert_eq!(outcome(&I32Exit(3).into()), (3, None));
        assert_eq!(outcome(&I32Exit(256).into()), (0, None));
    }

    #[test]
    fn a_trap_is_told_with_its_code() {
        let (code, text) = outcome(&wasmtime::Error::from(Trap::UnreachableCodeReached));
        assert_eq!(code, TRAPPED);
        assert!(text.expect("a text").contains("unreachable"));
    }
}
