//! Derives what a guest will need from its imports.

use serde::Serialize;

use super::guest::Guest;

/// Something outside of itself that a guest uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// Files and directories of its container.
    Files,
    /// Sockets of its Pod's network.
    Network,
    /// Outgoing HTTP requests.
    Http,
    /// Environment variables and arguments.
    Env,
    /// Standard input, output and error.
    Stdio,
    /// Clocks, and waiting.
    Clocks,
    /// Random numbers.
    Random,
    /// A port to serve HTTP on.
    Serve,
    /// Configuration.
    Config,
    /// A key-value store.
    KeyValue,
    /// Log lines.
    Logging,
    /// TLS over its own connections.
    Tls,
    /// Inference.
    Models,
}

impl Grant {
    /// Returns the text for people.
    pub fn in_words(self) -> &'static str {
        match self {
            Grant::Files => "files and directories of its container",
            Grant::Network => "sockets of the Pod's network",
            Grant::Http => "outgoing HTTP requests",
            Grant::Env => "environment variables and arguments",
            Grant::Stdio => "standard input, output and error",
            Grant::Clocks => "clocks",
            Grant::Random => "random numbers",
            Grant::Serve => "a port to serve HTTP on (8080)",
            Grant::Config => "configuration (the environment, or a directory)",
            Grant::KeyValue => "a key-value store (in memory, in a file, or in Redis)",
            Grant::Logging => "log lines (standard error)",
            Grant::Tls => "TLS over its own connections",
            Grant::Models => "inference with models from its files (on the processor)",
        }
    }
}

/// What is needed for an interface, or for a function of WASI 0.1, by the beginning of its name.
const NEEDED_FOR: [(&str, Grant); 26] = [
    ("wasi:filesystem/", Grant::Files),
    ("path_", Grant::Files),
    ("fd_prestat", Grant::Files),
    ("wasi:sockets/", Grant::Network),
    ("sock_", Grant::Network),
    ("wasi:http/outgoing-handler", Grant::Http),
    ("wasi:http/client", Grant::Http),
    ("wasi:cli/environment", Grant::Env),
    ("environ_", Grant::Env),
    ("args_", Grant::Env),
    ("wasi:cli/std", Grant::Stdio),
    ("wasi:cli/terminal", Grant::Stdio),
    ("fd_write", Grant::Stdio),
    ("fd_read", Grant::Stdio),
    ("wasi:clocks/", Grant::Clocks),
    ("clock_", Grant::Clocks),
    ("poll_oneoff", Grant::Clocks),
    ("wasi:random/", Grant::Random),
    ("random_get", Grant::Random),
    ("wasi:http/handler", Grant::Serve),
    ("wasi:http/incoming-handler", Grant::Serve),
    ("wasi:config/", Grant::Config),
    ("wasi:keyvalue/", Grant::KeyValue),
    ("wasi:logging/", Grant::Logging),
    ("wasi:tls/", Grant::Tls),
    ("wasi:nn/", Grant::Models),
];

/// Returns what a guest will need, each once and in a fixed order.
pub fn needs(guest: &Guest) -> Vec<Grant> {
    let module = guest.imports.iter().filter(|it| it.name == provided::MODULE);
    let functions = module.flat_map(|it| it.items.iter());
    let interfaces = guest.imports.iter().map(|it| &it.name);
    let exported = guest.exports.iter().filter(|it| it.starts_with("wasi:http/"));
    let names: Vec<&String> = interfaces.chain(functions).chain(exported).collect();
    let mut needs = Vec::new();
    for (prefix, grant) in NEEDED_FOR {
        let is_needed = names.iter().any(|it| it.starts_with(prefix));
        if is_needed && !needs.contains(&grant) {
            needs.push(grant);
        }
    }
    needs
}
