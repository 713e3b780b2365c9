//! Configuration of a private containerd: it keeps everything in one directory, and has the runtime handlers.
//!
//! Versions 1 and 2 of containerd name the sections differently. The shim itself needs only the three lines of the
//! handler; a stock node has no further configuration for it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::cgroups;
use crate::containerd::Containerd;

/// Returns the socket of the private containerd in `folder`. The path is short, because a socket's path has at most 107
/// bytes.
pub fn socket(folder: &Path) -> PathBuf {
    folder.join("c.sock")
}

/// Returns the log of the private containerd in `folder`.
pub fn log(folder: &Path) -> PathBuf {
    folder.join("containerd.log")
}

/// Returns the directory in which the private containerd looks for the configuration of its network.
pub fn network_folder(folder: &Path) -> PathBuf {
    folder.join("cni")
}

/// Returns the directory with a `hosts.toml` for each registry that has another address than its name.
pub fn registries(folder: &Path) -> PathBuf {
    folder.join("certs.d")
}

/// The image of every Pod's sandbox.
pub const PAUSE: &str = "registry.example/samples/pause:1";

/// Returns the text of `config.toml`.
///
/// `restrict_oom_score_adj` allows the tests to run without CAP_SYS_RESOURCE. Network namespaces are kept in the state
/// directory, so that each can be recognised as this node's.
fn containerd(version: &Containerd, folder: &Path, plugins: &Path, by_systemd: bool) -> String {
    let (sections, plugin) = match version.major {
        1 => (VERSION_1, "io.containerd.grpc.v1.cri"),
        _ => (VERSION_2, "io.containerd.cri.v1.runtime"),
    };
    let runtime = |name, text| {
        let options = match version.major {
            1 => format!("ConfigPath = \"{}\"", options_file(folder, name).display()),
            _ => text,
        };
        HANDLER.replace("HANDLER", name).replace("OPTIONS", &options)
    };
    let handlers: String = options(folder).map(|(name, text)| runtime(name, text)).concat();
    let systemd = if by_systemd { SYSTEMD } else { "" };
    let further: String =
        version.handlers.iter().map(|name| FURTHER.replace("NAME", name)).collect();
    format!("{COMMON}{sections}{HANDLERS}{systemd}{handlers}{further}")
        .replace("PLUGIN", plugin)
        .replace("FOLDER", &folder.display().to_string())
        .replace("CONFIG_VERSION", if version.major == 1 { "2" } else { "3" })
        .replace("CNI_BINARIES", &plugins.display().to_string())
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
    bin_dir = "CNI_BINARIES"
    conf_dir = "FOLDER/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "FOLDER/certs.d"
"#;

const VERSION_2: &str = r#"
[plugins."io.containerd.grpc.v1.cri"]
  stream_server_address = "127.0.0.1"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "PAUSE"
[plugins."io.containerd.cri.v1.images".registry]
  config_path = "FOLDER/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
  drain_exec_sync_io_timeout = "2s"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["CNI_BINARIES"]
    conf_dir = "FOLDER/cni"
"#;

/// `wasmtime` is the whole configuration that a node needs so that a Pod's annotations reach the shim. `wasmtime-stock`
/// is what k3s writes by itself, and `wasmtime-partial` was written by hand before there were grants.
const HANDLERS: &str = r#"
[plugins."PLUGIN".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."PLUGIN".containerd.runtimes.wasmtime]
  runtime_type = "io.containerd.wasmtime.v1"
  pod_annotations = ["wasmtime.shim/*"]
[plugins."PLUGIN".containerd.runtimes.wasmtime-stock]
  runtime_type = "io.containerd.wasmtime.v1"
[plugins."PLUGIN".containerd.runtimes.wasmtime-partial]
  runtime_type = "io.containerd.wasmtime.v1"
  pod_annotations = ["wasmtime.shim/http-*"]
"#;

/// Part of a node's `config.toml` if kubelet's cgroup driver is systemd. The shim needs no option for that.
const SYSTEMD: &str = r#"
[plugins."PLUGIN".containerd.runtimes.runc.options]
  SystemdCgroup = true
"#;

/// A handler of another shim.
const FURTHER: &str = r#"
[plugins."PLUGIN".containerd.runtimes.NAME]
  runtime_type = "io.containerd.NAME.v1"
"#;

/// A handler with runtime options.
const HANDLER: &str = r#"
[plugins."PLUGIN".containerd.runtimes.HANDLER]
  runtime_type = "io.containerd.wasmtime.v1"
[plugins."PLUGIN".containerd.runtimes.HANDLER.options]
  OPTIONS
"#;

/// Returns the file with the policy of the handler `wasmtime-policy`. A test writes it.
pub fn policy(folder: &Path) -> PathBuf {
    folder.join("policy.toml")
}

/// Returns the handlers with runtime options, and their options: those that k3s writes, with a cgroup for the shim; a
/// mistake; and a policy for guests.
fn options(folder: &Path) -> [(&'static str, String); 3] {
    let cgroup = folder.file_name().unwrap_or_default().to_string_lossy();
    let like_k3s = format!(
        "BinaryName = \"/usr/bin/containerd-shim-wasmtime-v1\"\nSystemdCgroup = false\n\
         ShimCgroup = \"/{cgroup}/shims\""
    );
    [
        ("wasmtime-options", like_k3s),
        ("wasmtime-mistyped", "SystemdCGroup = true".into()),
        ("wasmtime-policy", format!("NodeConfig = \"{}\"", policy(folder).display())),
    ]
}

/// Returns the file of a handler's options, because containerd 1.6 passes no options of an unknown runtime except the
/// path of a file.
fn options_file(folder: &Path, handler: &str) -> PathBuf {
    folder.join(format!("{handler}.toml"))
}

/// Writes everything that a private containerd reads into `folder`.
pub fn write(version: &Containerd, folder: &Path, plugins: &Path) -> Result<()> {
    for (handler, text) in options(folder) {
        fs::write(options_file(folder, handler), text)?;
    }
    let text = containerd(version, folder, plugins, cgroups::by_systemd()?);
    Ok(fs::write(folder.join("config.toml"), text)?)
}
