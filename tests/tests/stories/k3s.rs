//! k3s: its directories, the configuration that it generates and what its scripts do, replayed on a containerd 2.x.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use tests::cgroups;
use tests::containerd::Containerd;
use tests::installer::{self, Installer};
use tests::processes::{self, Process};
use tests::wait::{self, SOON};
use tests::{Container, Node, Pod, command};

use crate::installing::config;

/// What k3s writes by itself for a shim that it finds in PATH.
const FOUND: &str = r#"
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'wasmtime']
  runtime_type = "io.containerd.wasmtime.v1"

[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.'wasmtime'.options]
  BinaryName = "/usr/local/bin/containerd-shim-wasmtime-v1"
  SystemdCgroup = BY_SYSTEMD
"#;

/// Of `k3s-killall.sh`: every shim below the data directory, by its command line, with all that is below it.
const KILLALL: &str = r#"
children() { ps -e -o ppid= -o pid= | sed -e 's/^\s*//g; s/\s\s*/\t/g;' | grep -w "^$1" | cut -f2; }
tree() { for pid in "$@"; do echo "$pid"; for child in $(children "$pid"); do tree "$child"; done; done; }
shims() { ps -e -o pid= -o args= | sed -e 's/^ *//; s/\s\s*/\t/;' | grep -w "$1/data/[^/]*/bin/containerd-shim" | cut -f1; }
found=$(shims "$1")
[ -n "$found" ] || exit 3
kill -9 $(tree $found) 2>/dev/null
exit 0
"#;

/// A k3s server that has been started: its data directory.
fn k3s(node: &Node) -> Result<PathBuf> {
    let data = node.folder().join("k3s");
    let dir = data.join("agent/etc/containerd");
    fs::create_dir_all(&dir)?;
    fs::create_dir_all(data.join("server"))?;
    let config = config(node);
    let generated = dir.join("config.toml");
    let imports = format!("imports = [\"{}/config-v3.toml.d/*.toml\"]\n", dir.display());
    let text = installer::without_handler(&fs::read_to_string(&config)?);
    let found = FOUND.replace("BY_SYSTEMD", &cgroups::by_systemd()?.to_string());
    let text = text.replace("version = 3\n", &format!("version = 3\n{imports}")) + &found;
    fs::write(&generated, text)?;
    fs::remove_file(&config)?;
    symlink(&generated, &config)?;
    node.end_containerd(Signal::SIGTERM)?;
    node.start_containerd()?;
    Ok(data)
}

fn on_k3s(story: impl Fn(&Node, &Path) -> Result<()>) -> Result<()> {
    for containerd in Containerd::available()?.into_iter().filter(|it| it.major == 2) {
        let node = Node::start(containerd)?;
        let data = k3s(&node)?;
        story(&node, &data)?;
        node.stop()?;
    }
    Ok(())
}

fn killall(data: &Path) -> Result<command::Output> {
    command::run("sh", ["-c", KILLALL, "sh", &data.display().to_string()])
}

#[test]
fn the_installer_completes_k3s_own_handler_by_a_drop_in_and_takes_it_away_again() -> Result<()> {
    on_k3s(|node, data| {
        let generated = data.join("agent/etc/containerd/config.toml");
        let before = fs::read(&generated)?;
        let installer = Installer::on_k3s(node, data);
        let printed = installer.must(&["install"])?;
        assert!(printed.starts_with("k3s server, containerd 2."), "{printed}");
        assert_eq!(fs::read(&generated)?, before, "k3s would write it anew");
        let drop_in = data.join("agent/etc/containerd/config-v3.toml.d/10-wasmtime-shim.toml");
        assert!(fs::read_to_string(&drop_in)?.contains("pod_annotations"));
        let shim = data.join("data/wasmtime-shim/bin/containerd-shim-wasmtime-v1");
        let status = installer.must(&["status"])?;
        assert!(status.contains(&format!("has the handler, {}", shim.display())), "{status}");
        // Those of k3s' own handler stay.
        assert!(status.contains("the handler has runtime options"), "{status}");
        let pod = node.run_pod(&Pod::new("hello"))?;
        assert_eq!(pod.run(&Container::new("app", &node.image("hello")?))?.wait()?.code, 0);
        pod.stop()?;
        pod.remove()?;
        installer.must(&["uninstall"])?;
        assert!(!drop_in.exists() && !shim.exists());
        assert!(!data.join("data").exists(), "directories are left");
        Ok(())
    })
}

#[test]
fn k3s_killall_ends_guests_of_an_installed_shim_and_would_miss_another() -> Result<()> {
    on_k3s(|node, data| {
        let installer = Installer::on_k3s(node, data);
        let elsewhere = node.run_pod(&Pod::new("elsewhere").handler("wasmtime-stock"))?;
        assert_eq!(killall(data)?.code, 3, "there is none yet");
        installer.must(&["install"])?;
        let pod = node.run_pod(&Pod::new("server"))?;
        let _guest = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(crate::pod::PORT, "/")?.status, 200);
        let family = processes::family(&pod.shim()?);
        ensure!(family.len() > 2, "{family:?}");
        killall(data)?.success()?;
        for process in &family {
            wait::until(SOON, &format!("{process:?} to end"), || {
                Ok(Process::at(process.pid).is_none().then_some(()))
            })?;
        }
        ensure!(elsewhere.shim().is_ok(), "another shim was ended");
        for pod in [&pod, &elsewhere] {
            pod.stop()?;
            pod.remove_in_the_end()?;
        }
        installer.must(&["uninstall"]).map(drop).context("uninstall")
    })
}
