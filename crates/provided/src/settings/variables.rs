//! Environment variables.

use super::{ADDRESS, COUNT, DIRECTORY, DURATION, FILE, PATH, SWITCH, Setting, TEXT, URL, Unset};

/// Length of the accept queue of an HTTP server, as in runwasi.
pub const BACKLOG: Setting = Setting {
    key: "WASMTIME_HTTP_BACKLOG",
    sets: "how many connections of the HTTP server may wait to be accepted; the guest does not see the variable",
    allowed: COUNT,
    unset: Unset::Is("128"),
};

/// Address of an HTTP server, as in runwasi.
pub const LISTEN: Setting = Setting {
    key: "WASMTIME_HTTP_PROXY_SOCKET_ADDR",
    sets: "the address and port of the HTTP server; the guest does not see the variable",
    allowed: ADDRESS,
    unset: Unset::Means("all addresses, with the port that the image exposes or 8080"),
};

/// Variables of a container's environment.
pub const CONTAINER_VARIABLES: [Setting; 16] = [
    Setting {
        key: "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        sets: "how many spans are sent at once",
        allowed: COUNT,
        unset: Unset::Is("512"),
    },
    Setting {
        key: "OTEL_BSP_MAX_QUEUE_SIZE",
        sets: "how many spans may wait to be sent; further spans are lost",
        allowed: COUNT,
        unset: Unset::Is("2048"),
    },
    Setting {
        key: "OTEL_BSP_SCHEDULE_DELAY",
        sets: "how long spans wait so that they can be sent together, in milliseconds",
        allowed: COUNT,
        unset: Unset::Is("5000"),
    },
    Setting {
        key: "OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        sets: "the OpenTelemetry collector that spans are sent to",
        allowed: URL,
        unset: Unset::Means("no spans"),
    },
    Setting {
        key: "OTEL_EXPORTER_OTLP_HEADERS, OTEL_EXPORTER_OTLP_TRACES_HEADERS",
        sets: "headers of the requests to the collector",
        allowed: "key=value, and further ones after commas; `,` and `=` in a value percent-encoded",
        unset: Unset::Means("none"),
    },
    Setting {
        key: "OTEL_EXPORTER_OTLP_PROTOCOL, OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
        sets: "the protocol of the collector",
        allowed: "http/protobuf",
        unset: Unset::Is("http/protobuf"),
    },
    Setting {
        key: "OTEL_EXPORTER_OTLP_TIMEOUT, OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
        sets: "how long the collector may take, in milliseconds",
        allowed: COUNT,
        unset: Unset::Is("10000"),
    },
    Setting {
        key: "OTEL_RESOURCE_ATTRIBUTES",
        sets: "attributes of all spans",
        allowed: "key=value, and further ones after commas; `,` and `=` in a value percent-encoded",
        unset: Unset::Means("none"),
    },
    Setting {
        key: "OTEL_SDK_DISABLED",
        sets: "whether spans are disabled, whatever the collector is",
        allowed: SWITCH,
        unset: Unset::Is("false"),
    },
    Setting {
        key: "OTEL_SERVICE_NAME",
        sets: "the name of the service in all spans",
        allowed: TEXT,
        unset: Unset::Means("the name of the guest"),
    },
    Setting {
        key: "OTEL_TRACES_EXPORTER",
        sets: "whether spans are sent; none disables them",
        allowed: "otlp or none",
        unset: Unset::Is("otlp"),
    },
    Setting {
        key: "OTEL_TRACES_SAMPLER",
        sets: "the sampler, which decides for which requests there are spans",
        allowed: "a sampler of the OpenTelemetry specification",
        unset: Unset::Is("parentbased_always_on"),
    },
    Setting {
        key: "OTEL_TRACES_SAMPLER_ARG",
        sets: "the share of requests, for samplers that take one",
        allowed: "a number from 0 to 1",
        unset: Unset::Is("1"),
    },
    Setting {
        key: "SSL_CERT_FILE",
        sets: "a file in the container with the certificates that TLS trusts: requests of the guest, `wasi:tls`, and the Redis of `wasi:keyvalue`",
        allowed: "the path of a file in PEM",
        unset: Unset::Means("the certificates that the node trusts, or else Mozilla's list"),
    },
    BACKLOG,
    LISTEN,
];

/// Directory for code that is not in containerd's content store. The path must be absolute, because the shim's own
/// working directory is a bundle, which is removed with its container.
pub const CACHE: Setting = Setting {
    key: "WASMTIME_SHIM_CACHE",
    sets: "the directory for compiled code that is not in containerd's content store",
    allowed: PATH,
    unset: Unset::Is("/var/lib/wasmtime-shim/cache"),
};

/// Memory limit of one compilation. A guest of some hundred KiB takes 40 MiB. The stack of each of the worker's threads
/// takes 2 MiB, and there is one thread for each processor.
pub const COMPILE_MEMORY: Setting = Setting {
    key: "WASMTIME_SHIM_COMPILE_MEMORY",
    sets: "how much memory one compilation may use",
    allowed: "a size of at least 256Mi, such as 4Gi",
    unset: Unset::Is("4Gi"),
};

/// Time limit of one compilation.
pub const COMPILE_TIME: Setting = Setting {
    key: "WASMTIME_SHIM_COMPILE_TIME",
    sets: "how long one compilation may take",
    allowed: DURATION,
    unset: Unset::Is("300s"),
};

/// The node's file with the policy for guests.
pub const NODE_CONFIG: Setting = Setting {
    key: "WASMTIME_SHIM_CONFIG",
    sets: "the node's file, which says what guests may be granted; the runtime option `NodeConfig` takes precedence",
    allowed: PATH,
    unset: Unset::Means("`/etc/wasmtime-shim/config.toml`, if it exists"),
};

/// Variables of containerd's environment, which shims inherit.
pub const NODE_VARIABLES: [Setting; 6] = [
    Setting {
        key: "PATH",
        sets: "where the shim looks for the OCI runtime for Linux programs",
        allowed: "absolute paths, with colons between them",
        unset: Unset::Means("no OCI runtime, unless `BinaryName` gives a path"),
    },
    CACHE,
    COMPILE_MEMORY,
    COMPILE_TIME,
    NODE_CONFIG,
    Setting {
        key: "WASMTIME_SHIM_TRACE",
        sets: "the file to which the shim's processes append a line for each step of a start, for `make bench-trace`",
        allowed: PATH,
        unset: Unset::Means("no trace"),
    },
];

/// Variables of the environment of `wasm-image`.
pub const TOOL_VARIABLES: [Setting; 7] = [
    Setting {
        key: "CONTAINERD_ADDRESS",
        sets: "containerd's socket for `warm`, as `--address` does",
        allowed: FILE,
        unset: Unset::Is("/run/containerd/containerd.sock"),
    },
    Setting {
        key: "DOCKER_CONFIG",
        sets: "the directory with the credentials of `docker login`, in `config.json`",
        allowed: DIRECTORY,
        unset: Unset::Means("`~/.docker`"),
    },
    Setting {
        key: "HTTP_PROXY, HTTPS_PROXY, NO_PROXY",
        sets: "the proxy for requests to registries; `--plain-http` uses none",
        allowed: URL,
        unset: Unset::Means("no proxy"),
    },
    Setting {
        key: "REGISTRY_AUTH_FILE",
        sets: "the file with credentials, which is read first",
        allowed: FILE,
        unset: Unset::Means("the files of `docker login` and `podman login`"),
    },
    Setting {
        key: "SSL_CERT_FILE",
        sets: "the certificates that are trusted",
        allowed: "the path of a file in PEM",
        unset: Unset::Means("the certificates that the system trusts"),
    },
    Setting {
        key: "XDG_CONFIG_HOME",
        sets: "the directory with the credentials of `podman login`, in `containers/auth.json`; it is read last",
        allowed: DIRECTORY,
        unset: Unset::Means("`~/.config`"),
    },
    Setting {
        key: "XDG_RUNTIME_DIR",
        sets: "the directory with the credentials of `podman login`, in `containers/auth.json`",
        allowed: DIRECTORY,
        unset: Unset::Means("the directory is not read"),
    },
];
