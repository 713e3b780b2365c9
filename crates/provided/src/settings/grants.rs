//! Settings of what a guest may do.

use super::{Setting, Unset};

/// What applies if nothing names a key.
const AS_THE_PROFILE: Unset = Unset::Means(
    "what the label of the image names, or else the node's file, or else what the profile allows",
);

/// Destinations of a guest's sockets.
pub const ALLOW_CONNECT: Setting = Setting {
    key: "wasmtime.shim/allow-connect",
    sets: "where sockets may connect to; with it or `allow-http`, a guest can reach only what the two name",
    allowed: "HOST:PORT with commas between, or nothing; HOST is a name, *.NAME, an address, a CIDR (IPv6 in brackets) or *, PORT is a number, N-M or *, and /udp at the end is for UDP: 10.0.0.0/8:5432, redis:6379",
    unset: AS_THE_PROFILE,
};

/// Destinations of a guest's HTTP requests.
pub const ALLOW_HTTP: Setting = Setting {
    key: "wasmtime.shim/allow-http",
    sets: "where HTTP requests may be sent; with it or `allow-connect`, a guest can reach only what the two name",
    allowed: "SCHEME://HOST[:PORT] with commas between, or nothing; SCHEME is http or https, HOST is a name, *.NAME, an address or *: https://api.example.com, http://*.shop.svc",
    unset: AS_THE_PROFILE,
};

/// Where a guest may listen.
pub const ALLOW_LISTEN: Setting = Setting {
    key: "wasmtime.shim/allow-listen",
    sets: "where sockets of the guest may listen; the HTTP server of `wasi:http` needs none",
    allowed: "PORT or ADDRESS:PORT with commas between, or nothing; PORT is a number, N-M or *, and /udp at the end is for UDP: 8080, 127.0.0.1:9000-9010, 53/udp",
    unset: AS_THE_PROFILE,
};

/// Directories that a guest may use.
pub const FILES: Setting = Setting {
    key: "wasmtime.shim/files",
    sets: "which directories the guest may use, each with everything in it",
    allowed: "PATH=ro or PATH=rw with commas between, or nothing; PATH is an absolute path in the container: /data=rw, /etc/config=ro",
    unset: AS_THE_PROFILE,
};

/// Optional interfaces that a guest is offered.
pub const INTERFACES: Setting = Setting {
    key: "wasmtime.shim/interfaces",
    sets: "which optional interfaces the guest is offered; a guest that imports another one is not created",
    allowed: "names with commas between, or nothing; the names are wasi:config, wasi:http (requests that the guest sends), wasi:keyvalue, wasi:logging, wasi:nn and wasi:tls",
    unset: Unset::Means(
        "what the label of the image names, or else the node's file, or else all that the node's file allows",
    ),
};

/// The same as a label, by which an image declares what its guest needs.
pub const NEEDED_INTERFACES: Setting = Setting {
    unset: Unset::Means("what the node's file names, or else all that it allows"),
    ..INTERFACES
};

/// What a guest may do that nothing names.
pub const GRANT_PROFILE: Setting = Setting {
    key: "wasmtime.shim/profile",
    sets: "what the guest may do that nothing names: everything, everything except metadata services of clouds, or nothing",
    allowed: "privileged, baseline or restricted",
    unset: Unset::Means("the profile of the node's file, or else `baseline`"),
};

/// The same setting as a label, by which an image declares what its guest needs.
pub const fn needed(setting: Setting) -> Setting {
    let unset = Unset::Means("what the node's file names, or else what the profile allows");
    Setting { unset, ..setting }
}
