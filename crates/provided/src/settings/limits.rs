//! Settings of how much a guest may use.

use super::{COUNT, DURATION, SIZE, Setting, Unset};

/// What applies if nothing names a limit that has no default.
const AS_THE_NODE: Unset = Unset::Means(
    "what the label of the image says, or else the node's file, or else no limit of its own",
);

/// Lines that a guest may write in a second.
pub const LOG_RATE: Setting = Setting {
    key: "wasmtime.shim/log-rate",
    sets: "how many lines a second the guest may write to stdout and stderr together; further lines are dropped and counted",
    allowed: COUNT,
    unset: AS_THE_NODE,
};

/// Memory of a guest.
pub const MAX_MEMORY: Setting = Setting {
    key: "wasmtime.shim/max-memory",
    sets: "how much memory the instances of the guest may have together; `resources.limits.memory` applies as well",
    allowed: "a size of at least 64Ki, such as 64Mi",
    unset: AS_THE_NODE,
};

/// Time of a guest.
pub const TIMEOUT: Setting = Setting {
    key: "wasmtime.shim/timeout",
    sets: "how long the guest may run, from its start; for a server, how long it may take until a response begins",
    allowed: DURATION,
    unset: AS_THE_NODE,
};

/// Silence of a server's client.
pub const HTTP_IDLE_TIMEOUT: Setting = Setting {
    key: "wasmtime.shim/http-idle-timeout",
    sets: "how long a client of the HTTP server may send nothing, or wait without taking its response",
    allowed: DURATION,
    unset: Unset::Is("60s"),
};

/// Size of a request's body.
pub const HTTP_MAX_BODY: Setting = Setting {
    key: "wasmtime.shim/http-max-body",
    sets: "the largest body of a request",
    allowed: SIZE,
    unset: Unset::Is("100Mi"),
};

/// Connections of a server.
pub const HTTP_MAX_CONNECTIONS: Setting = Setting {
    key: "wasmtime.shim/http-max-connections",
    sets: "the largest number of connections at a time",
    allowed: COUNT,
    unset: Unset::Is("1024"),
};

/// Size of a request's head.
pub const HTTP_MAX_HEADER: Setting = Setting {
    key: "wasmtime.shim/http-max-header",
    sets: "the largest head of a request",
    allowed: "a size from 8Ki to 1Mi",
    unset: Unset::Is("64Ki"),
};

/// Instances of a server.
pub const HTTP_MAX_REQUESTS: Setting = Setting {
    key: "wasmtime.shim/http-max-requests",
    sets: "the largest number of instances at a time",
    allowed: COUNT,
    unset: Unset::Means(
        "128, or one for each MiB of the memory that guests may use if that is fewer, and at least 4",
    ),
};

/// Time of a request.
pub const HTTP_REQUEST_TIMEOUT: Setting = Setting {
    key: "wasmtime.shim/http-request-timeout",
    sets: "how long a guest may take until its response begins",
    allowed: DURATION,
    unset: Unset::Is("60s"),
};

/// The same setting as a label, by which an image has a limit that a Pod may change.
pub const fn of_image(setting: Setting) -> Setting {
    let unset = Unset::Means("what the node's file says, or else no limit of its own");
    Setting { unset, ..setting }
}
