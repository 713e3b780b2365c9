//! `node-installer` with a real containerd: its effect on the node's Pods, and its removal.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use tests::containerd::{Containerd, repository};
use tests::installer::{self, Installer};
use tests::processes::Process;
use tests::wait::{self, SOON};
use tests::{Container, Node, Pod, RunningPod, command, on_each_containerd, shim};

use crate::upgrading::executed;

/// What SELinux keeps about a file.
const LABEL: &str = "security.selinux";

pub const SHIM: &str = "containerd-shim-wasmtime-v1";

pub fn config(node: &Node) -> PathBuf {
    node.folder().join("config.toml")
}

/// Runs a Pod of the handler under test, and returns the output of its guest.
fn says_hello(node: &Node, name: &str) -> Result<()> {
    let pod = node.run_pod(&Pod::new(name).annotation("wasmtime.shim/http-access-log", "off"))?;
    let guest = pod.run(&Container::new("app", &node.image("hello")?))?;
    ensure!(guest.wait()?.code == 0);
    guest.wait_for_output("hello from wasi")?;
    // The test's PATH has a shim of that name as well.
    assert_eq!(executed(&pod.shim()?)?, fs::metadata(node.folder().join("bin").join(SHIM))?.ino());
    pod.stop()?;
    pod.remove()
}

/// A Linux Pod that ran before, of a handler that the installer does not change.
fn bystander(node: &Node) -> Result<(RunningPod<'_>, Process)> {
    let pod = node.run_pod(&Pod::new("bystander").handler("wasmtime-stock"))?;
    let script = "echo ready; sleep 1000";
    let app = pod.run(&Container::shell("app", &node.image("linux")?, script))?;
    app.wait_for_output("ready")?;
    // The shell executes its last command in its own place, a moment after it has written the line.
    let process = wait::until(SOON, "the shell to sleep", || {
        Ok(Some(app.process()?).filter(|process| process.command == "sleep 1000"))
    })?;
    Ok((pod, process))
}

fn is_unharmed(process: &Process) -> Result<()> {
    // Its parent may have changed, because the process that made it ends.
    let is_it = |now: &Process| now.command == process.command;
    ensure!(Process::at(process.pid).as_ref().is_some_and(is_it), "{process:?} has ended");
    Ok(())
}

#[test]
fn an_installed_handler_runs_pods_and_uninstall_leaves_the_node_as_it_was() -> Result<()> {
    on_each_containerd(|node| {
        let installer = Installer::new(node)?;
        let before = fs::read(config(node))?;
        let (_pod, process) = bystander(node)?;
        let refused = node.run_pod(&Pod::new("early"));
        ensure!(refused.is_err(), "there is a handler already");

        let printed = installer.must(&["install"])?;
        assert!(printed.contains("restarting containerd"), "{printed}");
        says_hello(node, "hello")?;
        is_unharmed(&process)?;
        let status = installer.must(&["status"])?;
        assert!(status.contains("state:      installed\n"), "{status}");
        let again = installer.must(&["install"])?;
        assert!(again.contains("there is nothing to do"), "{again}");

        let pod = node.run_pod(&Pod::new("in-the-way"))?;
        let refused = installer.run(&["uninstall"])?;
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.stderr.contains("default/in-the-way"), "{refused:?}");
        pod.stop()?;
        pod.remove()?;
        installer.must(&["uninstall"])?;
        is_unharmed(&process)?;
        assert_eq!(fs::read(config(node))?, before);
        for gone in ["bin", "installer"] {
            assert!(!node.folder().join(gone).exists(), "{gone} is left");
        }
        let status = installer.run(&["status"])?;
        assert_eq!(status.code, 3, "{status:?}");
        Ok(())
    })
}

#[test]
fn make_install_ends_with_a_guest_that_ran() -> Result<()> {
    on_each_containerd(|node| {
        let installer = Installer::new(node)?;
        let script = repository().join("scripts/install.sh");
        let words = installer.words(&["install"]);
        // On a machine containerd and its client are found by themselves.
        let places = [
            format!("CONTAINERD_ADDRESS={}", node.socket().display()),
            format!("CTR={}", node.containerd.ctr.display()),
            script.display().to_string(),
        ];
        let line = places.iter().chain(&words[1..]);
        let done = installer.while_restarting(|| command::run("env", line))?.success()?;
        assert!(done.stdout.ends_with("== a guest\nhello from wasi\n"), "{done:?}");
        installer.must(&["uninstall"]).map(drop)
    })
}

#[test]
fn a_configuration_that_containerd_does_not_accept_is_not_written() -> Result<()> {
    on_each_containerd(|node| {
        let installer = Installer::new(node)?;
        let text = fs::read_to_string(config(node))?;
        // Valid TOML, which says nothing about what containerd makes of it.
        let text = text.replace("[grpc]", "[grpc]\n  gid = \"wheel\"");
        fs::write(config(node), &text)?;
        let refused = installer.run(&["install"])?;
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.stderr.contains("does not accept"), "{refused:?}");
        assert_eq!(fs::read_to_string(config(node))?, text);
        assert!(!node.folder().join("bin").exists());
        Ok(())
    })
}

#[test]
fn a_containerd_that_does_not_start_with_the_handler_gets_its_old_configuration_back() -> Result<()>
{
    for mut containerd in Containerd::available()? {
        let scratch = tempfile::tempdir()?;
        let wrapper = scratch.path().join("containerd");
        let refuses = format!(
            "#!/bin/sh\n[ \"$3\" = config ] || ! grep -q 'runtimes.wasmtime]' \"$2\" || exit 1\nexec {} \"$@\"\n",
            containerd.program.display()
        );
        executable(&wrapper, refuses.as_bytes())?;
        containerd.program = wrapper;
        let version = containerd.version.clone();
        let node = start_without_handler(containerd)?;
        let installer = Installer::new(&node)?;
        let before = fs::read(config(&node))?;
        let (_pod, process) = bystander(&node)?;
        let failed = installer.run(&["install"])?;
        assert_eq!(failed.code, 5, "{version}: {failed:?}");
        assert!(failed.stderr.contains("everything is as it was before"), "{failed:?}");
        assert_eq!(fs::read(config(&node))?, before);
        is_unharmed(&process)?;
        let (_pod, other) = bystander_named(&node, "afterwards")?;
        is_unharmed(&other)?;
        for left in ["bin", "installer"] {
            assert!(!node.folder().join(left).exists(), "{left} is left");
        }
        node.stop().context(version)?;
    }
    Ok(())
}

fn bystander_named<'node>(node: &'node Node, name: &str) -> Result<(RunningPod<'node>, Process)> {
    let pod = node.run_pod(&Pod::new(name).handler("wasmtime-stock"))?;
    let process = pod.process()?;
    Ok((pod, process))
}

/// A node whose containerd would not start with the harness' own handler.
fn start_without_handler(containerd: Containerd) -> Result<Node> {
    Node::start_with(containerd, installer::without_handler)
}

fn executable(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes)?;
    Ok(fs::set_permissions(path, Permissions::from_mode(0o755))?)
}

/// A shim of another project with our name, as runwasi's prints its version.
const OTHER: &[u8] = b"#!/bin/sh\nprintf 'containerd-shim-wasmtime-v1:\\n  Runtime: Wasmtime\\n  Version: 0.6.0\\n'\n";

/// A tree of files as a node of kubeadm has them, and how the installer is run on it.
pub struct Tree {
    scratch: tempfile::TempDir,
}

impl Tree {
    pub fn new() -> Result<Self> {
        let tree = Self { scratch: tempfile::tempdir()? };
        for (path, text) in [
            ("etc/kubernetes/kubelet.conf", ""),
            ("etc/containerd/config.toml", "version = 2 # keep\n[debug]\n  level = \"info\"\n"),
            ("var/lib/keep", ""),
            ("usr/local/bin/keep", ""),
        ] {
            let path = tree.path(path);
            fs::create_dir_all(path.parent().context("no parent")?)?;
            fs::write(path, text)?;
        }
        let shim = tree.small_shim();
        executable(&shim, b"#!/bin/sh\necho containerd-shim-wasmtime-v1 0.1.0\n")?;
        Ok(tree)
    }

    /// A program that says that it is the shim: kills at each step would write the real one a hundred times.
    fn small_shim(&self) -> PathBuf {
        self.scratch.path().join(SHIM)
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.scratch.path().join("root").join(path)
    }

    pub fn shim(&self) -> PathBuf {
        self.path("usr/local/bin").join(SHIM)
    }

    pub fn words(&self, words: &[&str]) -> Vec<String> {
        let root = self.path("").display().to_string();
        let shim = format!("--shim={}", self.small_shim().display());
        let has_shim = words.iter().any(|word| word.starts_with("--shim"));
        let needs_shim = words.first() == Some(&"install") && !has_shim;
        let shim = needs_shim.then_some(shim.as_str());
        let places = ["--root", &root, "--containerd-version=1.7.27"];
        words.iter().copied().chain(shim).chain(places).map(str::to_owned).collect()
    }

    pub fn run(&self, words: &[&str]) -> Result<command::Output> {
        command::run(installer::program(), self.words(words))
    }

    /// Every file with its bytes and permissions.
    pub fn files(&self) -> Result<String> {
        let root = self.path("").display().to_string();
        let script =
            "cd \"$0\" && find . -printf '%p %m %y %U %G\\n' -type f -exec sha256sum {} + | sort";
        Ok(command::run("sh", ["-c", script, &root])?.success()?.stdout)
    }
}

#[test]
fn another_s_shim_of_that_name_is_replaced_on_demand_alone_and_comes_back() -> Result<()> {
    let tree = Tree::new()?;
    executable(&tree.shim(), OTHER)?;
    let before = tree.files()?;
    let refused = tree.run(&["install"])?;
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("Version: 0.6.0, of user root"), "{refused:?}");
    assert_eq!(tree.files()?, before);
    tree.run(&["install", "--replace"])?.success()?;
    assert_ne!(fs::read(tree.shim())?, OTHER);
    tree.run(&["uninstall"])?.success()?;
    assert_eq!(tree.files()?, before);
    Ok(())
}

#[test]
fn what_is_read_only_or_full_is_said_and_nothing_is_changed() -> Result<()> {
    let tree = Tree::new()?;
    let small = tests::disk::Disk::mount(&tree.path("usr/local/bin"), 1 << 20)?;
    let before = tree.files()?;
    let real = format!("--shim={}", shim::program()?.display());
    let full = tree.run(&["install", &real])?;
    assert_eq!(full.code, 1, "{full:?}");
    assert!(full.stderr.contains("no space is left on the device"), "{full:?}");
    assert_eq!(tree.files()?, before);
    let dir = tree.path("usr/local/bin").display().to_string();
    command::must(&format!("mount -o remount,ro {dir}"))?;
    let refused = tree.run(&["install", "--bin-dir=/usr/local/bin"])?;
    assert_eq!(refused.code, 4, "{refused:?}");
    assert!(refused.stderr.contains("/usr/local/bin is on a read-only file system"), "{refused:?}");
    // Where no directory is named, the next is taken.
    tree.run(&["install"])?.success()?;
    assert!(tree.path("opt/wasmtime-shim/bin").join(SHIM).exists());
    tree.run(&["uninstall"])?.success()?;
    command::must(&format!("mount -o remount,rw,noexec {dir}"))?;
    let refused = tree.run(&["install", "--bin-dir=/usr/local/bin"])?;
    assert!(refused.stderr.contains("without executables (noexec)"), "{refused:?}");
    assert_eq!(tree.files()?, before);
    small.unmount()
}

#[test]
fn labels_of_selinux_are_kept_and_a_new_shim_gets_that_of_runtimes() -> Result<()> {
    let tree = Tree::new()?;
    fs::create_dir_all(tree.path("sys/fs/selinux"))?;
    fs::write(tree.path("sys/fs/selinux/enforce"), "1")?;
    let config = tree.path("etc/containerd/config.toml");
    let ours = "system_u:object_r:container_config_t:s0";
    xattr::set(&config, LABEL, ours.as_bytes())?;
    let label = |path: &Path| -> Result<String> {
        Ok(String::from_utf8(xattr::get(path, LABEL)?.context("no label")?)?)
    };
    tree.run(&["install"])?.success()?;
    assert_eq!(label(&config)?, ours);
    assert_eq!(label(&tree.shim())?, "system_u:object_r:container_runtime_exec_t:s0");
    tree.run(&["uninstall"])?.success()?;
    assert_eq!(label(&config)?, ours);
    Ok(())
}

#[test]
fn a_change_by_somebody_else_survives_uninstall() -> Result<()> {
    let tree = Tree::new()?;
    tree.run(&["install"])?.success()?;
    let config = tree.path("etc/containerd/config.toml");
    let text = fs::read_to_string(&config)?.replace("info", "debug") + "[metrics]\n";
    fs::write(&config, text)?;
    tree.run(&["uninstall"])?.success()?;
    let text = fs::read_to_string(&config)?;
    assert_eq!(text, "version = 2 # keep\n[debug]\n  level = \"debug\"\n[metrics]\n");
    Ok(())
}

#[test]
fn variables_that_are_no_longer_set_are_taken_away_by_the_next_install() -> Result<()> {
    let tree = Tree::new()?;
    let before = tree.files()?;
    let file = tree.path("etc/systemd/system/containerd.service.d/10-wasmtime-shim.conf");
    let time = "--env=WASMTIME_SHIM_COMPILE_TIME=120s";
    let memory = "--env=WASMTIME_SHIM_COMPILE_MEMORY=2Gi";
    for (words, variables) in [
        (&["install", time, memory][..], vec!["COMPILE_TIME=120s", "COMPILE_MEMORY=2Gi"]),
        (&["install", memory], vec!["COMPILE_MEMORY=2Gi"]),
        (&["install"], vec![]),
        (&["install", time], vec!["COMPILE_TIME=120s"]),
    ] {
        tree.run(words)?.success()?;
        let lines = variables.iter().map(|it| format!("Environment=\"WASMTIME_SHIM_{it}\"\n"));
        assert_eq!(fs::read_to_string(&file)?, format!("[Service]\n{}", lines.collect::<String>()));
    }
    tree.run(&["uninstall"])?.success()?;
    assert_eq!(tree.files()?, before);
    Ok(())
}
