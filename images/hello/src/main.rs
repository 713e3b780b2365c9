//! A WASI command that does, on request, each thing that a container is expected to do.
//!
//! Without arguments, `hello` greets. Otherwise the first argument is a request (see [`main`]). The tests
//! check stdout, the error on stderr and the exit code.
#![forbid(unsafe_code)]

mod crash;
mod files;
mod memory;
mod tcp;

use std::io::{self, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Result of a request: nothing, or an error for stderr.
type Outcome = Result<(), String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] => say("hello from wasi\n"),
        ["args", rest @ ..] => print_lines(rest),
        ["env", names @ ..] => names.iter().try_for_each(|name| print_variable(name)),
        ["cat", path] => files::cat(path),
        ["write", path, text] => files::write(path, text),
        ["ls", path] => files::list(path),
        ["rename", from, to] => files::rename(from, to),
        ["readlink", path] => files::read_link(path),
        ["stdin"] => copy_stdin(u64::MAX),
        ["stdin", bytes] => number(bytes).and_then(copy_stdin),
        ["terminal"] => print_terminals(),
        // WASI 0.2 only distinguishes success and failure, so any code except 0 becomes 1.
        ["exit", code] => number(code).map(|code| std::process::exit(code)),
        ["sleep", seconds] => number(seconds).and_then(sleep),
        ["spin"] => spin(),
        ["trap"] => crash::trap(),
        ["panic"] => panic!("asked to panic"),
        ["allocate", mebibytes] => number(mebibytes).and_then(memory::allocate),
        ["fill"] => memory::fill(),
        ["fill", mebibytes] => number(mebibytes).and_then(memory::fill_to),
        ["tcp-connect", address] => tcp::connect(address),
        ["lines", count] => number(count).and_then(print_numbered),
        _ => Err(format!("unknown request {words:?}")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("hello: {message}");
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) -> Outcome {
    io::stdout().write_all(text.as_bytes()).map_err(|error| format!("stdout: {error}"))
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number that fits"))
}

fn print_lines(lines: &[&str]) -> Outcome {
    lines.iter().try_for_each(|line| say(&format!("{line}\n")))
}

/// Prints the value of a variable on a line. It is an error if the variable is not set.
fn print_variable(name: &str) -> Outcome {
    let value = std::env::var(name).map_err(|error| format!("{name}: {error}"))?;
    say(&format!("{value}\n"))
}

/// Reads to the end, or this many bytes.
fn copy_stdin(bytes: u64) -> Outcome {
    let mut input = io::stdin().take(bytes);
    io::copy(&mut input, &mut io::stdout()).map_err(|error| format!("stdin: {error}"))?;
    Ok(())
}

fn sleep(seconds: f64) -> Outcome {
    say("sleeping\n")?;
    std::thread::sleep(Duration::from_secs_f64(seconds.clamp(0.0, 86_400.0)));
    Ok(())
}

/// Prints which of the three streams are terminals.
fn print_terminals() -> Outcome {
    let streams = [
        ("stdin", io::stdin().is_terminal()),
        ("stdout", io::stdout().is_terminal()),
        ("stderr", io::stderr().is_terminal()),
    ];
    let terminals: Vec<&str> = streams.iter().filter(|it| it.1).map(|it| it.0).collect();
    say(&format!("{}\n", if terminals.is_empty() { "none".into() } else { terminals.join(" ") }))
}

/// Uses processor time until it is stopped from outside.
fn spin() -> Outcome {
    say("spinning\n")?;
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn print_numbered(count: u64) -> Outcome {
    let mut out = io::BufWriter::new(io::stdout());
    (1..=count)
        .try_for_each(|n| writeln!(out, "line {n}"))
        .and_then(|()| out.flush())
        .map_err(|error| format!("stdout: {error}"))
}
