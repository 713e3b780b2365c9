//! The `start` action: makes the serving process of a Pod, or finds the one that already serves it.
//!
//! The socket listens before the serving process exists, so that containerd's first call waits in the kernel instead of being
//! repeated. A Pod's second `start` finds the serving process by connecting to it.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use containerd_shim::{Flags, StartOpts, cgroup};
use nix::fcntl::{Flock, FlockArg};
use sandbox::read_only;

use crate::bootstrap;
use crate::config::ContainerConfig;
use crate::options::Options;

/// File in the bundle from which containerd 1.x reads the address after its own restart.
pub const ADDRESS_FILE: &str = "address";

/// Runs the `start` action in the working directory, which is the bundle.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let _span = trace::span("start");
    let (request, dialect) = bootstrap::read(flags)?;
    let bundle = std::env::current_dir().context("the bundle is gone")?;
    let config = ContainerConfig::read(&bundle)?;
    let address = request.socket_address(config.sandbox_id().unwrap_or(&request.id));
    // The delete action finds the socket by this file, so it must be written first.
    std::fs::write(ADDRESS_FILE, &address).context("write the address file")?;
    let Some(listener) = listen(socket_path(&address))? else {
        return bootstrap::reply(&address, dialect);
    };
    // The serving process and its children inherit the score.
    let protected = cgroup::adjust_oom_score(std::process::id())
        .context("raise the shim's oom_score_adj above containerd's");
    let served = protected.and_then(|()| serve(&request, &address, listener));
    let mut child = served.inspect_err(|_| remove(&address))?;
    bootstrap::reply(&address, dialect).inspect_err(|_| {
        // containerd does not know of the process, so it would serve for ever.
        let _ = child.kill();
        remove(&address);
    })
}

fn remove(address: &str) {
    // An error here is ignored, because the error before it is reported.
    let _ = std::fs::remove_file(socket_path(address));
}

/// Path of a `unix://` address.
pub fn socket_path(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap_or(address))
}

/// Makes a listening socket; `None` if another process listens there. A socket whose owner is dead is replaced.
fn listen(path: &Path) -> anyhow::Result<Option<UnixListener>> {
    let context = || format!("listen on {}", path.display());
    let directory = path.parent().with_context(context)?;
    std::fs::create_dir_all(directory)
        .with_context(|| format!("create {}", directory.display()))?;
    // Without this lock two processes could find a dead socket, and the second would replace the first one's.
    let directory = File::open(directory).with_context(context)?;
    let _one_at_a_time = Flock::lock(directory, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(context)?;
    match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Ok(None);
            }
            std::fs::remove_file(path).with_context(context)?;
            UnixListener::bind(path).with_context(context).map(Some)
        }
        other => other.with_context(context).map(Some),
    }
}

/// Executes this binary again, through a read-only descriptor that containers cannot write, with the listener as stdin.
fn serve(request: &StartOpts, address: &str, listener: UnixListener) -> anyhow::Result<Child> {
    let _span = trace::span("execute the serving process");
    join_cgroup(request)?;
    let path = std::env::current_exe().context("find this binary")?;
    let shim = read_only::program(&path)?;
    let mut command = Command::new(format!("/proc/self/fd/{}", shim.as_raw_fd()));
    command
        .arg0(path)
        .args(["-namespace", &request.namespace, "-id", &request.id])
        .args(["-address", &request.address, "-socket", address])
        .args(request.debug.then_some("-debug"))
        .env("TTRPC_ADDRESS", &request.ttrpc_address)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        // It would inherit stdout and stderr otherwise.
        .stdout(read_only::null()?)
        .stderr(read_only::null()?)
        // Signals to containerd's process group must not reach the Pods.
        .process_group(0);
    // Sockets that systemd passed to containerd must not reach them either.
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        command.env_remove(name);
    }
    command.spawn().context("execute the serving process")
}

/// Joins the cgroup of the runtime option `ShimCgroup`, in which the serving process then begins.
fn join_cgroup(request: &StartOpts) -> anyhow::Result<()> {
    let cgroup = Options::parse(request.extensions.first())?.shim_cgroup;
    if cgroup.is_empty() {
        return Ok(());
    }
    cgroup::add_task_to_cgroup(&cgroup, std::process::id())
        .with_context(|| format!("join ShimCgroup {cgroup:?} of the runtime options"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_socket_is_shared_and_a_dead_one_replaced() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("s/socket");
        let first = listen(&path).expect("listens").expect("is the first");
        assert!(listen(&path).expect("connects").is_none());
        drop(first);
        assert!(listen(&path).expect("replaces").is_some());
    }
}
