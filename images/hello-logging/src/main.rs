//! Logs through `wasi:logging`: each argument is a message, with the level and context of the variables `LEVEL` and
//! `CONTEXT`. Without arguments, it logs a greeting.

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "hello", generate_all });
}

use std::env;

use bindings::wasi::logging::logging::{Level, log};

fn main() {
    let level = match env::var("LEVEL").as_deref() {
        Ok("trace") => Level::Trace,
        Ok("debug") => Level::Debug,
        Ok("warn") => Level::Warn,
        Ok("error") => Level::Error,
        Ok("critical") => Level::Critical,
        _ => Level::Info,
    };
    let context = env::var("CONTEXT").unwrap_or_else(|_| "hello".to_owned());
    let messages: Vec<String> = env::args().skip(1).collect();
    if messages.is_empty() {
        log(level, &context, "hello from wasi:logging");
    }
    for message in messages {
        log(level, &context, &message);
    }
}
