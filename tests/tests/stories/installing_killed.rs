//! `node-installer` killed at each of its steps, as by a power cut: the next run succeeds.

use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::installer::{self, Installer};
use tests::processes::Process;
use tests::steps::{Killer, Victim};
use tests::wait;
use tests::{Container, Pod, on_each_containerd};

use crate::installing::{Tree, config};

/// Number of kills with a tree of files, and with a containerd.
const KILLS: usize = 60;
const KILLS_WITH_CONTAINERD: usize = 5;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs the installer and kills it at that step; returns how many it made.
fn kill_at(step: usize, words: &[String]) -> Result<usize> {
    // The shell forks the installer when it reads a line, so that the killer is attached before that.
    let mut shell: Child = Command::new("sh")
        .args(["-c", "read -r go; \"$@\"; exit 0", "sh"])
        .arg(installer::program())
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let process = Process::at(shell.id().try_into()?).context("no shell")?;
    let killer = Killer::watch(&process, Victim { process: 0, step }, None, LIMIT)?;
    shell.stdin.take().context("no input")?.write_all(b"go\n")?;
    // It must not be waited for, because the killer waits for the same.
    wait::until(LIMIT, "the installer to end", || {
        Ok(Process::at(process.pid).is_none().then_some(()))
    })?;
    let steps = killer.steps();
    // Either this process or the killer has reaped it.
    let _ = shell.wait();
    steps
}

#[test]
fn after_a_kill_at_any_step_install_and_uninstall_both_succeed() -> Result<()> {
    let before = Tree::new()?.files()?;
    let tree = Tree::new()?;
    tree.run(&["install"])?.success()?;
    let installed = tree.files()?;
    ensure!(installed != before);
    for command in ["install", "uninstall"] {
        let fresh = || -> Result<Tree> {
            let tree = Tree::new()?;
            if command == "uninstall" {
                tree.run(&["install"])?.success()?;
            }
            Ok(tree)
        };
        let tree = fresh()?;
        let steps = kill_at(usize::MAX, &tree.words(&[command]))?;
        ensure!(steps > 100, "{command} made {steps} steps");
        for kill in 0..KILLS {
            let step = 1 + kill * steps / KILLS;
            let tree = fresh()?;
            kill_at(step, &tree.words(&[command]))?;
            let (next, expected) = match kill % 2 {
                0 => ("install", &installed),
                _ => ("uninstall", &before),
            };
            let context = || format!("{next} after {command} was killed at step {step} of {steps}");
            tree.run(&[next])?.success().with_context(context)?;
            assert_eq!(&tree.files()?, expected, "{}", context());
            tree.run(&["uninstall"])?.success().with_context(context)?;
            assert_eq!(tree.files()?, before, "{}", context());
        }
    }
    Ok(())
}

#[test]
fn a_containerd_whose_installer_was_killed_gets_the_handler_from_the_next() -> Result<()> {
    on_each_containerd(|node| {
        let installer = Installer::new(node)?;
        let config = config(node);
        let before = std::fs::read(&config)?;
        let words = installer.words(&["install"]);
        let steps = installer.while_restarting(|| kill_at(usize::MAX, &words))?;
        for kill in 0..KILLS_WITH_CONTAINERD {
            installer.must(&["uninstall"])?;
            assert_eq!(std::fs::read(&config)?, before);
            // The later steps are those at which something has been changed.
            let step = steps * (kill + KILLS_WITH_CONTAINERD) / (2 * KILLS_WITH_CONTAINERD);
            installer.while_restarting(|| kill_at(step, &words))?;
            let context = || format!("after a kill at step {step} of {steps}");
            installer.must(&["install"]).with_context(context)?;
            let pod = node.run_pod(&Pod::new("hello")).with_context(context)?;
            assert_eq!(pod.run(&Container::new("app", &node.image("hello")?))?.wait()?.code, 0);
            pod.stop()?;
            pod.remove()?;
        }
        installer.must(&["uninstall"]).map(drop)
    })
}
