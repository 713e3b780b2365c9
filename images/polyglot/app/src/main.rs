//! Counts the words of its arguments: Python counts them, JavaScript lays out what it found.
//!
//! What goes wrong in either is told on stderr, and the exit code is 1.

mod bindings {
    wit_bindgen::generate!({ path: "../wit", world: "rust" });
}

use std::process::ExitCode;

use bindings::samples::polyglot::{tally, text};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match tally::count(&words) {
        Ok(rows) => {
            print!("{}", text::table(&rows));
            println!("{} words, {} different", words.len(), rows.len());
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("polyglot: {message}");
            ExitCode::FAILURE
        }
    }
}
