//! A command of WASI 0.3: asynchronous, with streams for output and files.
//!
//! | arguments | on stdout |
//! |---|---|
//! | any | a greeting, and one line for each argument |
//! | `cat PATH` | the file's content |
//! | `write PATH TEXT` | nothing: it creates a file |
//! | `rename FROM TO` | nothing: it renames a file |
//! | `readlink PATH` | the target of a link |
//! | `look-up NAME` | the addresses of a name |
//! | `tcp-connect ADDRESS:PORT` | `connected` |
//! | `tcp-listen ADDRESS:PORT` | `listening` |
//! | `udp-send ADDRESS:PORT` | `sent`, after a datagram was sent |
//!
//! Errors are printed on stderr, with exit code 1.
#![forbid(unsafe_code)]

mod files;
mod network;
mod output;

use wasip3::cli::environment::get_arguments;
use wasip3::cli::{stderr, stdout};

/// Result of a request: nothing, or an error for stderr.
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
            ["look-up", name] => network::look_up(name).await,
            ["tcp-connect", address] => network::connect(address).await,
            ["tcp-listen", address] => network::listen(address).await,
            ["udp-send", address] => network::send(address).await,
            words => greet(words).await,
        };
        let Err(message) = outcome else { return Ok(()) };
        // If stderr is gone as well, the error cannot be reported.
        let _ = output::write(stderr::write_via_stream, format!("hello-p3: {message}\n")).await;
        Err(())
    }
}

async fn greet(names: &[&str]) -> Outcome {
    let mut text = String::from("hello from WASI 0.3\n");
    text.extend(names.iter().flat_map(|name| [name, "\n"]));
    output::write(stdout::write_via_stream, text).await
}
