//! Calls of a core module's export with numbers as arguments. Each result is a line, as with Wasmtime's `--invoke`.
//! Integers are decimal or, after `0x`, hexadecimal. They may be signed or unsigned, because their type is neither.

use std::str::FromStr;

use wasmtime::{FuncType, Val, ValType};

use crate::{Error, wave};

/// Whether a function can be called with words: each of its parameters is a number.
pub fn is_callable(function: &FuncType) -> bool {
    let is_number =
        |ty: ValType| matches!(ty, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64);
    function.params().all(is_number)
}

/// A function's name and types: `add(i32, i32) -> i32`.
pub fn signature(name: &str, function: &FuncType) -> String {
    let types = |types: &mut dyn Iterator<Item = ValType>| {
        types.map(|ty| ty.to_string()).collect::<Vec<_>>().join(", ")
    };
    let params = types(&mut function.params());
    match function.results().len() {
        0 => format!("{name}({params})"),
        1 => format!("{name}({params}) -> {}", types(&mut function.results())),
        _ => format!("{name}({params}) -> ({})", types(&mut function.results())),
    }
}

/// The values of `args`, each a word or several with commas between them. The args of a function without parameters are for
/// the guest to read.
///
/// # Errors
/// [`Error::Arguments`], with the column, when they do not parse, or are too few or too many.
pub fn arguments(name: &str, function: &FuncType, args: &[String]) -> Result<Vec<Val>, Error> {
    let types: Vec<ValType> = function.params().collect();
    if types.is_empty() {
        return Ok(Vec::new());
    }
    let given = args.join(wave::SEPARATOR);
    let failed = |byte: usize, reason: String| {
        let (argument, column) = wave::position(args, byte);
        Error::Arguments { argument, column, reason, signature: signature(name, function) }
    };
    let words = words(&given);
    if words.len() != types.len() {
        // The first that is too many, or the place of the first that is missing.
        let byte = words.get(types.len()).map_or(given.len(), |(byte, _)| *byte);
        let reason = format!("there are {} arguments in place of {}", words.len(), types.len());
        return Err(failed(byte, reason));
    }
    let pairs = types.iter().zip(words);
    pairs
        .map(|(ty, (byte, word))| {
            value(ty, word).ok_or_else(|| failed(byte, format!("not a number of type {ty}")))
        })
        .collect()
}

/// The words between the commas, each with where it begins.
fn words(given: &str) -> Vec<(usize, &str)> {
    if given.trim().is_empty() {
        return Vec::new();
    }
    let parts = given.split(',').scan(0, |next, part| {
        let start = *next + part.len() - part.trim_start().len();
        *next += part.len() + ",".len();
        Some((start, part.trim()))
    });
    parts.collect()
}

fn value(ty: &ValType, word: &str) -> Option<Val> {
    Some(match ty {
        ValType::I32 => {
            let signed = || integer(word, i32::from_str_radix);
            Val::I32(signed().or_else(|| Some(integer(word, u32::from_str_radix)?.cast_signed()))?)
        }
        ValType::I64 => {
            let signed = || integer(word, i64::from_str_radix);
            Val::I64(signed().or_else(|| Some(integer(word, u64::from_str_radix)?.cast_signed()))?)
        }
        ValType::F32 => Val::F32(f32::from_str(word).ok()?.to_bits()),
        ValType::F64 => Val::F64(f64::from_str(word).ok()?.to_bits()),
        _ => return None,
    })
}

fn integer<N, E>(word: &str, parse: impl Fn(&str, u32) -> Result<N, E>) -> Option<N> {
    match word.strip_prefix("0x") {
        // The parser would accept a sign there.
        Some(digits) if digits.starts_with(['+', '-']) => None,
        Some(digits) => parse(digits, 16).ok(),
        None => parse(word, 10).ok(),
    }
}

/// A result, as a line has it.
pub fn shown(value: &Val) -> String {
    match value {
        Val::I32(number) => number.to_string(),
        Val::I64(number) => number.to_string(),
        Val::F32(bits) => f32::from_bits(*bits).to_string(),
        Val::F64(bits) => f64::from_bits(*bits).to_string(),
        Val::V128(bits) => bits.as_u128().to_string(),
        reference => format!("<{}>", reference_name(reference)),
    }
}

fn reference_name(value: &Val) -> &'static str {
    match value {
        Val::FuncRef(_) => "funcref",
        Val::ExternRef(_) => "externref",
        Val::ExnRef(_) => "exnref",
        Val::ContRef(_) => "contref",
        _ => "anyref",
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::Engine;

    use super::*;

    fn call(params: &[ValType], args: &[&str]) -> Result<Vec<String>, String> {
        let ty = FuncType::new(&Engine::default(), params.to_vec(), [ValType::I32]);
        let args: Vec<String> = args.iter().map(|it| (*it).to_owned()).collect();
        let values = arguments("f", &ty, &args).map_err(|error| error.to_string())?;
        Ok(values.iter().map(shown).collect())
    }

    #[test]
    fn a_word_is_a_number_of_the_parameters_type() {
        let all = [ValType::I32, ValType::I64, ValType::F32, ValType::F64];
        let expected = Ok(["-2", "3", "0.5", "-1000"].map(str::to_owned).to_vec());
        assert_eq!(call(&all, &["-2", "3", "0.5", "-1e3"]), expected);
        // As `invoke` has them.
        assert_eq!(call(&all, &["-2, 3,0.5 , -1e3"]), expected);
        let largest = call(&[ValType::I32, ValType::I64], &["4294967295", "0xffffffffffffffff"]);
        assert_eq!(largest, Ok(vec!["-1".into(), "-1".into()]));
        assert_eq!(call(&[], &["not", "numbers"]), Ok(vec![]));
    }

    #[test]
    fn what_is_no_number_is_told_with_its_column_and_what_the_function_takes() {
        let two = [ValType::I32, ValType::I32];
        for (args, expected) in [
            (&["1", "two"][..], "argument 2, column 1: not a number of type i32"),
            (&["1", "4294967296"], "argument 2, column 1: not a number of type i32"),
            (&["1, two"], "argument 1, column 4: not a number of type i32"),
            (&["0x-1", "2"], "argument 1, column 1: not a number of type i32"),
            (&["1"], "argument 1, column 2: there are 1 arguments in place of 2"),
            (&[""], "argument 1, column 1: there are 0 arguments in place of 2"),
            (&["1", "2", "3"], "argument 3, column 1: there are 3 arguments in place of 2"),
        ] {
            let text = call(&two, args).expect_err("is refused");
            assert!(text.contains(expected), "{text}");
            assert!(text.ends_with("the function is f(i32, i32) -> i32"), "{text}");
            assert!(!args.iter().any(|arg| arg.len() > 1 && text.contains(arg)), "{text}");
        }
    }
}
