//! Declares every setting: its key, its effect, its allowed values, and what applies if it is not set.
//!
//! Parsers take the keys and the texts of their errors from here. `docs/settings.md` is generated from these tables. A
//! test in `tests/tests/documents` fails if the page is not current.

mod code;
mod error;
mod grants;
mod limits;
mod options;
mod table;
mod variables;

pub use code::{FEATURES, FUEL};
pub use error::{Place, SettingError};
use grants::needed;
pub use grants::{ALLOW_CONNECT, ALLOW_HTTP, ALLOW_LISTEN, FILES, GRANT_PROFILE, INTERFACES};
use limits::of_image;
pub use limits::{
    HTTP_IDLE_TIMEOUT, HTTP_MAX_BODY, HTTP_MAX_CONNECTIONS, HTTP_MAX_HEADER, HTTP_MAX_REQUESTS,
    HTTP_REQUEST_TIMEOUT, LOG_RATE, MAX_MEMORY, TIMEOUT,
};
pub use options::RUNTIME_OPTIONS;
pub use table::{OF_IMAGE, OF_POD, OF_RUNTIME, Table};
pub use variables::{BACKLOG, CACHE, COMPILE_MEMORY, COMPILE_TIME, LISTEN, NODE_CONFIG};
use variables::{CONTAINER_VARIABLES, NODE_VARIABLES, TOOL_VARIABLES};

use crate::LAYERS_LABEL;

/// A setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Key or name.
    pub key: &'static str,
    /// What the setting sets.
    pub sets: &'static str,
    /// Allowed values, as the error for any other value shows them.
    pub allowed: &'static str,
    /// What applies if the setting is not set.
    pub unset: Unset,
}

/// What applies if a setting is not set.
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
    /// The place where they are given.
    pub place: &'static str,
    /// The settings, in the order of their keys.
    pub settings: &'static [Setting],
}

/// All settings.
pub const SETTINGS: [Group; 6] = [
    Group { place: "annotation of a Pod", settings: &ANNOTATIONS },
    Group { place: "label of an image", settings: &LABELS },
    Group { place: "environment of a container", settings: &CONTAINER_VARIABLES },
    Group { place: "environment of containerd", settings: &NODE_VARIABLES },
    Group { place: "runtime option", settings: &RUNTIME_OPTIONS },
    Group { place: "environment of `wasm-image`", settings: &TOOL_VARIABLES },
];

/// Prefix of the key of each annotation and label.
pub const PREFIX: &str = "wasmtime.shim/";

/// Annotation of a Pod, or label of an image, that asks for a guest's initialisation before it is compiled.
pub const PREINIT: &str = "wasmtime.shim/preinit";

/// Allowed values of a switch.
const SWITCH: &str = "true or false";

/// Annotation that asks for a core dump of a guest that traps.
pub const CORE_DUMP: &str = "wasmtime.shim/coredump";

/// Annotation that names the directory of `wasi:config`.
pub const CONFIG: &str = "wasmtime.shim/config";

/// Annotation that names the store of `wasi:keyvalue`.
pub const KEYVALUE: &str = "wasmtime.shim/keyvalue";

/// Annotation that names the file with the password of that store.
pub const KEYVALUE_PASSWORD_FILE: &str = "wasmtime.shim/keyvalue-password-file";

/// Allowed values of a path in the container.
const CONTAINER_PATH: &str = "an absolute path in the container";

/// Allowed values of an address.
const ADDRESS: &str = "an IP address and a port, such as 0.0.0.0:8080 or [::]:8080";

/// Allowed values of a duration.
const DURATION: &str = "a whole number with ms, s, m or h, such as 30s";

/// Allowed values of a size.
const SIZE: &str = "a number of bytes, or one with Ki, Mi or Gi, such as 10Mi";

/// Allowed values of a number of things.
const COUNT: &str = "a whole number of at least 1";

const URL: &str = "a URL, http:// or https://";
const PATH: &str = "an absolute path";
const FILE: &str = "the path of a file";
const DIRECTORY: &str = "the path of a directory";
const TEXT: &str = "a text";

/// Annotations of a Pod.
pub const ANNOTATIONS: [Setting; 27] = [
    ALLOW_CONNECT,
    ALLOW_HTTP,
    ALLOW_LISTEN,
    Setting {
        key: CONFIG,
        sets: "the directory from which `wasi:config` takes its values, such as that of a ConfigMap",
        allowed: CONTAINER_PATH,
        unset: Unset::Means("the container's environment"),
    },
    Setting {
        key: CORE_DUMP,
        sets: "the file or directory for a core dump of a guest that traps",
        allowed: CONTAINER_PATH,
        unset: Unset::Means("no core dump"),
    },
    FEATURES,
    FILES,
    FUEL,
    Setting {
        key: "wasmtime.shim/http-access-log",
        sets: "whether the server writes a line of JSON to stdout for each response",
        allowed: "json or off",
        unset: Unset::Is("off"),
    },
    HTTP_IDLE_TIMEOUT,
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
    HTTP_MAX_BODY,
    HTTP_MAX_CONNECTIONS,
    HTTP_MAX_HEADER,
    HTTP_MAX_REQUESTS,
    Setting {
        key: "wasmtime.shim/http-request-ids",
        sets: "whether each line that the guest writes begins with the id of its request",
        allowed: SWITCH,
        unset: Unset::Is("false"),
    },
    HTTP_REQUEST_TIMEOUT,
    INTERFACES,
    Setting {
        key: KEYVALUE,
        sets: "the store of `wasi:keyvalue`: a file, which is created if it does not exist, or a database of Redis or Valkey",
        allowed: "an absolute path in the container, or redis://[USER@]HOST[:PORT][/DATABASE][?prefix=PREFIX] (rediss:// for TLS) without a password, which belongs in the file that wasmtime.shim/keyvalue-password-file names",
        unset: Unset::Means("a store in memory, which ends with the container"),
    },
    Setting {
        key: KEYVALUE_PASSWORD_FILE,
        sets: "the file with the password for the Redis of `wasi:keyvalue`, such as one of a mounted Secret",
        allowed: "an absolute path in the container, beside a wasmtime.shim/keyvalue that is a URL",
        unset: Unset::Means("no password"),
    },
    LOG_RATE,
    MAX_MEMORY,
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
    GRANT_PROFILE,
    TIMEOUT,
];

/// Labels of an image.
pub const LABELS: [Setting; 12] = [
    needed(ALLOW_CONNECT),
    needed(ALLOW_HTTP),
    needed(ALLOW_LISTEN),
    code::NEEDED_FEATURES,
    needed(FILES),
    code::NEEDED_FUEL,
    grants::NEEDED_INTERFACES,
    Setting {
        key: LAYERS_LABEL,
        sets: "nothing on a node: `wasm-image` writes it, so that images with different wasm layers have different configs",
        allowed: "the ChainID of the digests of the wasm layers",
        unset: Unset::Means("no such label"),
    },
    of_image(LOG_RATE),
    of_image(MAX_MEMORY),
    Setting {
        key: PREINIT,
        sets: "whether a guest is initialised before it is compiled",
        allowed: SWITCH,
        unset: Unset::Is("false"),
    },
    of_image(TIMEOUT),
];

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
