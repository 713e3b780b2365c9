//! Prints its configuration, which it reads through `wasi:config`.
//!
//! Without arguments it prints everything, one `KEY=VALUE` per line; with keys, it prints their values. `follow KEY` prints the
//! value, and each later value of the key. If something cannot be read, stderr says so and the exit code is 1.

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "hello", generate_all });
}

use std::process::ExitCode;
use std::time::Duration;

use bindings::wasi::config::store::{self, Error};

/// Interval between two reads of a followed value.
const INTERVAL: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let printed = match words.as_slice() {
        [] => print_all(),
        ["follow", key] => follow(key),
        keys => keys.iter().try_for_each(|key| print(key)),
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("hello-config: {message}");
            ExitCode::FAILURE
        }
    }
}

fn print_all() -> Result<(), String> {
    for (key, value) in store::get_all().map_err(words)? {
        println!("{key}={value}");
    }
    Ok(())
}

fn print(key: &str) -> Result<(), String> {
    let value = store::get(key).map_err(words)?;
    println!("{}", value.ok_or_else(|| format!("there is no {key:?}"))?);
    Ok(())
}

fn follow(key: &str) -> Result<(), String> {
    let mut last = None;
    loop {
        let value = store::get(key).map_err(words)?;
        if value != last {
            println!("{}", value.as_deref().unwrap_or("(none)"));
            last = value;
        }
        std::thread::sleep(INTERVAL);
    }
}

fn words(error: Error) -> String {
    match error {
        Error::Upstream(reason) => format!("upstream: {reason}"),
        Error::Io(reason) => format!("io: {reason}"),
    }
}
