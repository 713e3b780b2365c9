//! What a private containerd is told: everything it keeps is in one folder, two runtime handlers.
//!
//! Versions 1 and 2 of containerd name the sections differently. Nothing in them is needed by the
//! shim itself but the handler's three lines: a stock node is configured no further.

use std::path::{Path, PathBuf};

use crate::containerd::Containerd;

/// The address of the private containerd in `folder`. The path is short: a socket's has 107 bytes.
pub fn socket(folder: &Path) -> PathBuf {
    folder.join("c.sock")
}

/// The folder where the private containerd looks for its network's configuration.
pub fn network_folder(folder: &Path) -> PathBuf {
    folder.join("cni")
}

/// The image that every Pod starts with.
pub const PAUSE: &str = "registry.example/samples/pause:1";

/// The text of `config.toml`.
///
/// `restrict_oom_score_adj` lets the tests run where CAP_SYS_RESOURCE is missing, and network
/// namespaces are kept in the state folder, so that each can be told to belong to this node.
pub fn containerd(version: &Containerd, folder: &Path, plugins: &Path) -> String {
    let sections = if version.major == 1 { VERSION_1 } else { VERSION_2 };
    format!("{}{sections}", COMMON)
        .replace("FOLDER", &folder.display().to_string())
        .replace("CONFIG_VERSION", if version.major == 1 { "2" } else { "3" })
        .replace("PLUGINS", &plugins.display().to_string())
        .replace("PAUSE", PAUSE)
}

const COMMON: &str = r#"
version = CONFIG_VERSION
root = "FOLDER/root"
state = "FOLDER/state"
disabled_plugins = [
  "io.containerd.nri.v1.nri",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "FOLDER/c.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "FOLDER/opt"
"#;

const VERSION_1: &str = r#"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "PAUSE"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "PLUGINS"
    conf_dir = "FOLDER/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.wasmtime]
    runtime_type = "io.containerd.wasmtime.v1"
"#;

const VERSION_2: &str = r#"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "PAUSE"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["PLUGINS"]
    conf_dir = "FOLDER/cni"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.wasmtime]
    runtime_type = "io.containerd.wasmtime.v1"
"#;
