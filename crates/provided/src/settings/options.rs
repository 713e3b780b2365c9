//! Runtime options.

use super::{DIRECTORY, FILE, PATH, SWITCH, Setting, TEXT, Unset};

/// Reason why options are accepted that have no effect.
const NO_EFFECT: &str = "nothing: it is accepted because runc's shim accepts it";

/// Options of the runtime in containerd's configuration: every option that runc's shim knows in containerd 1.6 to 2.4,
/// and those of `runtimeoptions.v1.Options` itself.
pub const RUNTIME_OPTIONS: [Setting; 16] = [
    Setting {
        key: "BinaryName",
        sets: "the OCI runtime for Linux programs; the path of the shim itself is ignored",
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
        sets: "whether the root is changed with chroot(2) instead of pivot_root(2)",
        allowed: SWITCH,
        unset: Unset::Is("false"),
    },
    Setting {
        key: "NodeConfig",
        sets: "the node's file, which says what guests may be granted",
        allowed: PATH,
        unset: Unset::Means("the variable `WASMTIME_SHIM_CONFIG`"),
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
