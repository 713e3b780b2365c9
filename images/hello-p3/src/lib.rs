//! A WASI command of WASI 0.3: asynchronous, with streams for output and files.
//!
//! | arguments | on stdout |
//! |---|---|
//! | any | a greeting, and each argument on a line of its own |
//! | `cat PATH` | the file's content |
//! | `write PATH TEXT` | nothing: it makes a file |
//! | `rename FROM TO` | nothing: it gives a file another name |
//! | `readlink PATH` | what a link says |
//!
//! What goes wrong is told on stderr, and the exit code is 1.
#![forbid(unsafe_code)]

mod files;
mod output;

use wasip3::cli::environment::get_arguments;
use wasip3::cli::{stderr, stdout};

/// What a request comes to: nothing more to say, or an error for stderr.
type Outcome = Result<(), String>;

struct Hello;

wasip3::cli::command::export!(Hello);

impl wasip3::exports::cli::run::Guest for Hello {
    async fn run() -> Result<(), ()> {
        let args = get_arguments();
        let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
        let outcome = match words.as_slice() {
            ["cat", path] => files::cat(path).await,
            ["write", path, text] => files::write(path, text).await,
            ["rename", from, to] => files::rename(from, to).await,
            ["readlink", path] => files::read_link(path).await,
            words => greet(words).await,
        };
        let Err(message) = outcome else { return Ok(()) };
        // With stderr gone as well there is nobody left to tell.
        let _ = output::write(stderr::write_via_stream, format!("hello-p3: {message}\n")).await;
        Err(())
    }
}

async fn greet(names: &[&str]) -> Outcome {
    let mut text = String::from("hello from WASI 0.3\n");
    text.extend(names.iter().flat_map(|name| [name, "\n"]));
    output::write(stdout::write_via_stream, text).await
}
