//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::version::Version;

/// Arguments of `node-installer`.
#[derive(Debug, Parser)]
#[command(
    version,
    about = "Puts containerd-shim-wasmtime-v1 on a node and gives containerd the handler \"wasmtime\"",
    after_help = "\
Exit codes: 0 done; 1 failed, and nothing was changed; 2 the command line was wrong; 3 `status`: not installed; 4 refused,
and nothing was changed; 5 containerd did not come back with the handler, and everything is as it was before; 6 containerd
did not come back without the handler either."
)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Install the shim and the handler, or update them; does nothing if they are up to date
    Install(Box<Install>),
    /// Restore everything as it was before
    Uninstall(Box<Uninstall>),
    /// Print what is installed, and whether containerd has the handler
    Status(Status),
    /// Give a DaemonSet of this installer another command, and wait until it has run on all nodes
    Retire(Retire),
    /// Wait for SIGTERM; for a DaemonSet whose init container has installed the shim
    Stay,
    /// Write man pages and completions, for packages
    #[command(hide = true)]
    Pages(pages::Pages),
}

/// Options that describe the node.
#[derive(Debug, Clone, clap::Args)]
pub struct NodeArgs {
    /// The node's root directory; if it is not /, programs of the node are not run
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Work on the node that this container runs on: enter the mount namespace of a process of the node, by default
    /// process 1; needs hostPID
    #[arg(long, value_name = "PID", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    pub host: Option<u32>,

    /// The file that containerd reads, instead of the distribution's
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The data directory of k3s or RKE2, if it is not below /var/lib/rancher
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    pub data_dir: Option<PathBuf>,

    /// The directory for copies of the files that are changed
    #[arg(long, value_name = "DIR", default_value = crate::record::DIR)]
    pub state_dir: PathBuf,

    /// containerd's socket, instead of the distribution's
    #[arg(long, value_name = "FILE")]
    pub socket: Option<PathBuf>,

    /// containerd's program, instead of the distribution's
    #[arg(long, value_name = "FILE")]
    pub containerd: Option<PathBuf>,

    /// containerd's version, if its program cannot be run
    #[arg(long, value_name = "VERSION")]
    pub containerd_version: Option<Version>,

    /// A shell command that restarts containerd, instead of the distribution's way
    #[arg(long, value_name = "COMMAND", conflicts_with = "no_restart")]
    pub restart_command: Option<String>,

    /// Do not restart containerd
    #[arg(long)]
    pub no_restart: bool,

    /// How long containerd may take to come back, in seconds; k3s first starts a whole control plane
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub restart_timeout: u64,

    /// Print what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Options for a DaemonSet.
#[derive(Debug, Clone, clap::Args)]
pub struct DaemonArgs {
    /// Label this node with wasmtime.shim/ready=true while it has the handler
    #[arg(long, value_name = "NODE", env = "NODE_NAME")]
    pub label_node: Option<String>,

    #[command(flatten)]
    pub api: ApiArgs,
}

/// Options for the API server.
#[derive(Debug, Clone, clap::Args)]
pub struct ApiArgs {
    /// The API server's URL, instead of the one that Pods get
    #[arg(long, value_name = "URL", env = "API_SERVER")]
    pub api_server: Option<String>,
}

/// Options of `install`.
#[derive(Debug, Clone, clap::Args)]
pub struct Install {
    /// The shim; by default the file beside this program
    #[arg(long, value_name = "FILE")]
    pub shim: Option<PathBuf>,

    /// The directory for the shim, instead of the distribution's
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,

    /// Replace another shim or handler of the same name
    #[arg(long)]
    pub replace: bool,

    /// A variable for the shims, such as WASMTIME_SHIM_COMPILE_TIME=120s; may be repeated
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = variable)]
    pub variables: Vec<(String, String)>,

    #[command(flatten)]
    pub node: NodeArgs,

    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Options of `uninstall`.
#[derive(Debug, Clone, clap::Args)]
pub struct Uninstall {
    /// Uninstall even if Pods of the handler are running
    #[arg(long)]
    pub force: bool,

    #[command(flatten)]
    pub node: NodeArgs,

    #[command(flatten)]
    pub daemon: DaemonArgs,
}

/// Options of `status`.
#[derive(Debug, Clone, clap::Args)]
pub struct Status {
    #[command(flatten)]
    pub node: NodeArgs,
}

/// Options of `retire`.
#[derive(Debug, Clone, clap::Args)]
pub struct Retire {
    /// The DaemonSet's namespace
    #[arg(long, value_name = "NAME", env = "POD_NAMESPACE")]
    pub namespace: String,

    /// The DaemonSet's name
    #[arg(value_name = "DAEMONSET")]
    pub name: String,

    /// The arguments for its init container, such as `uninstall --host`
    #[arg(value_name = "ARGS", required = true, last = true)]
    pub args: Vec<String>,

    /// How long to wait, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub wait: u64,

    #[command(flatten)]
    pub api: ApiArgs,
}

const PREFIX: &str = "WASMTIME_SHIM_";

fn variable(text: &str) -> Result<(String, String), String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(format!("{text:?} is not valid; allowed is KEY=VALUE"));
    };
    let is_name = |it: &str| {
        it.bytes().all(|it| it.is_ascii_uppercase() || it.is_ascii_digit() || it == b'_')
    };
    if !key.starts_with(PREFIX) || !is_name(key) {
        return Err(format!(
            "{key:?} is not a variable of the shim; allowed is one such as {PREFIX}COMPILE_TIME"
        ));
    }
    if value.contains(['\n', '"', '\\']) {
        return Err(format!("the value of {key} has a line break, a quote or a backslash"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Args;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn only_variables_of_the_shim_are_passed_on() {
        let parse =
            |env: &str| Args::try_parse_from(["node-installer", "install", "--env", env]).is_ok();
        assert!(parse("WASMTIME_SHIM_COMPILE_TIME=120s"));
        for env in
            ["PATH=/tmp", "WASMTIME_SHIM_CACHE", "WASMTIME_SHIM_x=1", "WASMTIME_SHIM_CACHE=a\nb"]
        {
            assert!(!parse(env), "{env}");
        }
    }
}
