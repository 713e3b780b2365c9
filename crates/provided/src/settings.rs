//! Every setting: what it is called, what it sets, what its value can be, and what holds without it.
//!
//! Parsers take the keys and the texts of their errors from here. `docs/settings.md` is made of these tables, and a test in
//! `tests/tests/documents` fails if the page is not current.

use crate::LAYERS_LABEL;

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its key or name.
    pub key: &'static str,
    /// What it sets.
    pub sets: &'static str,
    /// What its value can be, as the error for another value says it.
    pub allowed: &'static str,
    /// What holds if it is not set.
    pub unset: Unset,
}

/// What holds if a setting is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unset {
    /// The same as with this value.
    Is(&'static str),
    /// What this text says.
    Means(&'static str),
}

/// Settings that are given in the same place.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// Where they are given.
    pub place: &'static str,
    /// The settings, in the order of their keys.
    pub settings: &'static [Setting],
}

/// Every setting there is.
pub const SETTINGS: [Group; 6] = [
    Group { place: "annotation of a Pod", settings: &ANNOTATIONS },
    Group { place: "label of an image", settings: &LABELS },
    Group { place: "environment of a container", settings: &CONTAINER_VARIABLES },
    Group { place: "environment of containerd", settings: &NODE_VARIABLES },
    Group { place: "runtime option", settings: &RUNTIME_OPTIONS },
    Group { place: "environment of `wasm-image`", settings: &TOOL_VARIABLES },
];

/// What the key of each annotation and label begins with.
pub const PREFIX: &str = "wasmtime.shim/";

/// The annotation of a Pod, or the label of an image, that asks for a guest's initialisation before it is compiled.
pub const PREINIT: &str = "wasmtime.shim/preinit";

/// What a switch can be.
pub const SWITCH: &str = "true or false";

/// The annotation that asks for a core dump of a guest that traps.
pub const CORE_DUMP: &str = "wasmtime.shim/coredump";

/// What [`CORE_DUMP`] can be.
pub const CORE_DUMP_VALUES: &str = "an absolute path in the container";

/// What an address can be.
const ADDRESS: &str = "an IP address and a port, such as 0.0.0.0:8080 or [::]:8080";

/// What a duration can be.
const DURATION: &str = "a whole number with ms, s, m or h, such as 30s";

/// What a size can be.
const SIZE: &str = "a number of bytes, or one with Ki, Mi or Gi, such as 10Mi";

/// What a number of things can be.
const COUNT: &str = "a whole number of at least 1";

const URL: &str = "a URL, http:// or https://";
const PATH: &str = "an absolute path";
const FILE: &str = "the path of a file";
const DIRECTORY: &str = "the path of a directory";
const TEXT: &str = "a text";
const ANY: &str = "any value";

/// Annotations of a Pod.
pub const ANNOTATIONS: [Setting; 13] = [
    Setting {
        key: CORE_DUMP,
        sets: "the file or directory for a core dump of a guest that traps",
        allowed: CORE_DUMP_VALUES,
        unset: Unset::Means("no core dump"),
    },
    Setting {
        key: "wasmtime.shim/http-access-log",
        sets: "whether the server writes a line of JSON to stdout for each response",
        allowed: "json or off",
        unset: Unset::Is("off"),
    },
    Setting {
        key: "wasmtime.shim/http-idle-timeout",
        sets: "how long a client of the HTTP server may be silent",
        allowed: DURATION,
        unset: Unset::Is("60s"),
    },
    Setting {
        key: "wasmtime.shim/http-instances",
        sets: "how many requests one instance serves",
        allowed: "per-request, or reuse=N with a whole number of at least 1",
        unset: Unset::Means("`per-request`, and for `wasi:http` 0.3 `reuse=128`"),
    },
    Setting {
        key: "wasmtime.shim/http-listen",
        sets: "the address and port of the HTTP server",
        allowed: ADDRESS,
        unset: Unset::Means(
            "`WASMTIME_HTTP_PROXY_SOCKET_ADDR`, or else all addresses, with the port that the image exposes or 8080",
        ),
    },
    Setting {
        key: "wasmtime.shim/http-max-body",
        sets: "the largest body of a request",
        allowed: SIZE,
        unset: Unset::Is("100Mi"),
    },
    Setting {
        key: "wasmtime.shim/http-max-connections",
        sets: "the most connections at a time",
        allowed: COUNT,
        unset: Unset::Is("1024"),
    },
    Setting {
        key: "wasmtime.shim/http-max-header",
        sets: "the largest head of a request",
        allowed: "a size from 8Ki to 1Mi",
        unset: Unset::Is("64Ki"),
    },
    Setting {
        key: "wasmtime.shim/http-max-requests",
        sets: "the most instances at a time",
        allowed: COUNT,
        unset: Unset::Means(
            "128, or if that is fewer, one for each MiB of the memory that guests may use, and at least 4",
        ),
    },
    Setting {
        key: "wasmtime.shim/http-request-ids",
        sets: "whether each line that the guest writes begins with the id of its request",
        allowed: SWITCH,
        unset: Unset::Is("false"),
    },
    Setting {
        key: "wasmtime.shim/http-request-timeout",
        sets: "how long a guest may take until its response begins",
        allowed: DURATION,
        unset: Unset::Is("60s"),
    },
    Setting {
        key: "wasmtime.shim/metrics-listen",
        sets: "the address and port where metrics are served",
        allowed: ADDRESS,
        unset: Unset::Means("no metrics"),
    },
    Setting {
        key: PREINIT,
        sets: "whether a guest is initialised before it is compiled",
        allowed: SWITCH,
        unset: Unset::Means("what the label of the image says"),
    },
];

/// Labels of an image.
pub const LABELS: [Setting; 2] = [
    Setting {
        key: LAYERS_LABEL,
        sets: "nothing on a node: `wasm-image` writes it, so that images with other wasm layers have other configs",
        allowed: "the ChainID of the digests of the wasm layers",
        unset: Unset::Means("no such label"),
    },
    Setting {
        key: PREINIT,
        sets: "whether a guest is initialised before it is compiled",
        allowed: SWITCH,
        unset: Unset::Is("false"),
    },
];

/// The length of the accept queue of an HTTP server, as in runwasi.
pub const BACKLOG: Setting = Setting {
    key: "WASMTIME_HTTP_BACKLOG",
    sets: "how many connections of the HTTP server wait to be accepted; the guest does not see it",
    allowed: COUNT,
    unset: Unset::Is("128"),
};

/// The address of an HTTP server, as in runwasi.
pub const LISTEN: Setting = Setting {
    key: "WASMTIME_HTTP_PROXY_SOCKET_ADDR",
    sets: "the address and port of the HTTP server; the guest does not see it",
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
        sets: "how many spans wait to be sent before further ones are lost",
        allowed: COUNT,
        unset: Unset::Is("2048"),
    },
    Setting {
        key: "OTEL_BSP_SCHEDULE_DELAY",
        sets: "how long spans wait for others to be sent with, in milliseconds",
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
        allowed: "key=value, and further ones after commas",
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
        allowed: "key=value, and further ones after commas",
        unset: Unset::Means("none"),
    },
    Setting {
        key: "OTEL_SDK_DISABLED",
        sets: "whether there are no spans, wherever the collector is",
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
        sets: "whether spans are sent: not if it is none",
        allowed: "otlp or none",
        unset: Unset::Is("otlp"),
    },
    Setting {
        key: "OTEL_TRACES_SAMPLER",
        sets: "of which requests there are spans",
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
        sets: "a file of certificates in the container that the guest's requests over TLS trust",
        allowed: "the path of a file in PEM",
        unset: Unset::Means("the certificates that the node trusts, or else Mozilla's list"),
    },
    BACKLOG,
    LISTEN,
];

/// Where code is kept that containerd's content store does not take. The shim's own working directory is a bundle, which is
/// removed with its container: the path has to be absolute.
pub const CACHE: Setting = Setting {
    key: "WASMTIME_SHIM_CACHE",
    sets: "where compiled code is kept that is not in containerd's content store",
    allowed: PATH,
    unset: Unset::Is("/var/lib/wasmtime-shim/cache"),
};

/// How much memory a compilation may use. A guest of some hundred KiB takes 40 MiB, and the stack of each of the worker's
/// threads, of which there is one for each processor, 2 MiB.
pub const COMPILE_MEMORY: Setting = Setting {
    key: "WASMTIME_SHIM_COMPILE_MEMORY",
    sets: "how much memory one compilation may use",
    allowed: "a size of at least 256Mi, such as 4Gi",
    unset: Unset::Is("4Gi"),
};

/// How long a compilation may take.
pub const COMPILE_TIME: Setting = Setting {
    key: "WASMTIME_SHIM_COMPILE_TIME",
    sets: "how long one compilation may take",
    allowed: DURATION,
    unset: Unset::Is("300s"),
};

/// Variables of containerd's environment, which shims inherit.
pub const NODE_VARIABLES: [Setting; 5] = [
    Setting {
        key: "PATH",
        sets: "where the OCI runtime for Linux programs is looked for",
        allowed: "absolute paths, with colons between them",
        unset: Unset::Means("no OCI runtime but one that `BinaryName` names by its path"),
    },
    CACHE,
    COMPILE_MEMORY,
    COMPILE_TIME,
    Setting {
        key: "WASMTIME_SHIM_TRACE",
        sets: "the file to which the shim's processes append a line for each step of a start, for `make bench-trace`",
        allowed: PATH,
        unset: Unset::Means("no trace"),
    },
];

/// Why options are accepted that set nothing.
const NO_EFFECT: &str = "nothing: it is accepted because runc's shim accepts it";

/// Options of the runtime in containerd's configuration: every option that runc's shim knows, in containerd 1.6 to 2.4, and
/// those of `runtimeoptions.v1.Options` itself.
pub const RUNTIME_OPTIONS: [Setting; 15] = [
    Setting {
        key: "BinaryName",
        sets: "the OCI runtime for Linux programs; the path of the shim itself stands for none",
        allowed: "a path, or a name in containerd's PATH",
        unset: Unset::Means("runc, found in containerd's PATH"),
    },
    Setting {
        key: "ConfigPath",
        sets: "a file with the other options in TOML; it is read if containerd passes no options itself",
        allowed: FILE,
        unset: Unset::Means("no file"),
    },
    no_effect("CriuImagePath", TEXT),
    no_effect("CriuPath", TEXT),
    no_effect("CriuWorkPath", TEXT),
    Setting {
        key: "IoGid",
        sets: "the group that owns the stdio of a Linux program",
        allowed: "a group id; 0 is the program's own group",
        unset: Unset::Is("0"),
    },
    Setting {
        key: "IoUid",
        sets: "the user that owns the stdio of a Linux program",
        allowed: "a user id; 0 is the program's own user",
        unset: Unset::Is("0"),
    },
    Setting {
        key: "NoNewKeyring",
        sets: "whether Linux programs keep the session keyring of the node",
        allowed: SWITCH,
        unset: Unset::Is("false"),
    },
    Setting {
        key: "NoPivotRoot",
        sets: "whether the root is changed with chroot(2) in place of pivot_root(2)",
        allowed: SWITCH,
        unset: Unset::Is("false"),
    },
    Setting {
        key: "Root",
        sets: "the directory of the OCI runtime's state",
        allowed: DIRECTORY,
        unset: Unset::Means("`/run/containerd/runc`"),
    },
    Setting {
        key: "ShimCgroup",
        sets: "the cgroup of the shim itself",
        allowed: "the path of a cgroup",
        unset: Unset::Means("containerd's cgroup"),
    },
    Setting {
        key: "SystemdCgroup",
        sets: "whether systemd manages the cgroups",
        allowed: SWITCH,
        unset: Unset::Is("false"),
    },
    no_effect("TaskApiAddress", TEXT),
    no_effect("TaskApiVersion", "a whole number"),
    no_effect("TypeUrl", TEXT),
];

const fn no_effect(key: &'static str, allowed: &'static str) -> Setting {
    Setting { key, sets: NO_EFFECT, allowed, unset: Unset::Means("the same") }
}

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
        sets: "where `docker login` has left credentials, in `config.json`",
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
        sets: "the file with credentials that is looked at first",
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
        sets: "where `podman login` has left credentials, in `containers/auth.json`; it is looked at last",
        allowed: DIRECTORY,
        unset: Unset::Means("`~/.config`"),
    },
    Setting {
        key: "XDG_RUNTIME_DIR",
        sets: "where `podman login` has left credentials, in `containers/auth.json`",
        allowed: DIRECTORY,
        unset: Unset::Means("it is not looked at"),
    },
];

/// What the annotation with that key can be, or any value if there is none.
pub fn allowed(key: &str) -> &'static str {
    ANNOTATIONS.iter().find(|it| it.key == key).map_or(ANY, |it| it.allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_is_there_once_in_the_order_of_the_keys() {
        for Group { place, settings } in SETTINGS {
            assert!(settings.is_sorted_by(|one, next| one.key < next.key), "{place}");
        }
    }

    #[test]
    fn each_setting_says_what_it_is() {
        for setting in SETTINGS.iter().flat_map(|group| group.settings) {
            let (Unset::Is(unset) | Unset::Means(unset)) = setting.unset;
            for text in [setting.key, setting.sets, setting.allowed, unset] {
                assert!(!text.is_empty() && !text.contains(['|', '\n']), "{setting:?}");
            }
        }
    }
}
