//! Hooks of the OCI spec in a guest's container: when they run, what they see, and what becomes of one that fails or hangs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::processes;
use tests::wait::{self, SOON};

use super::{SIGKILL, bind, server};
use crate::shim::{ends, granted};

/// The shell of the image `linux`, which needs no other file.
fn shell() -> PathBuf {
    tests::containerd::linux_rootfs().join("bin/sh")
}

/// A hook that runs a script.
fn hook(script: &str) -> Value {
    let path = ["PATH=/usr/bin:/bin"];
    json!([{ "path": "/bin/sh", "args": ["sh", "-c", script], "env": path }])
}

#[test]
fn hooks_run_at_their_points_and_see_the_container() -> Result<()> {
    let bundle = server()?;
    let seen = bundle.folder.join("seen");
    fs::create_dir(&seen)?;
    let [outside, inside] = [seen.as_path(), Path::new("/seen")].map(|seen| {
        move |kind: &str| {
            hook(&format!("read -r state; echo {kind} $state >>{}/log", seen.display()))
        }
    });
    let kinds =
        ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    bundle.edit_config(|config| {
        for kind in kinds {
            config["hooks"][kind] = outside(kind);
        }
        config["hooks"]["startContainer"] = inside("startContainer");
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.extend([bind("/seen", &seen), bind("/bin/sh", &shell())]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(&bundle.id))?;
    let log = || -> Result<String> { Ok(fs::read_to_string(seen.join("log"))?) };
    wait::until(SOON, "the hooks", || Ok(log()?.contains("startContainer").then_some(())))?;
    granted(shim.kill_all(&bundle.id, SIGKILL))?;
    granted(shim.wait(&bundle.id))?;
    granted(shim.delete(&bundle.id))?;
    let log = log()?;
    // `poststart` and `startContainer` run in different processes, so their order is not defined.
    let order: BTreeSet<&str> = log.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(order, BTreeSet::from(kinds), "{log}");
    assert!(log.lines().all(|line| line.contains(&bundle.id)), "{log}");
    // The pid is the one in the hook's own pid namespace.
    let pids = [Some(pid), Some(pid), Some(1), Some(1), Some(pid), None];
    for (kind, pid) in kinds.into_iter().zip(pids) {
        let line = log.lines().find(|line| line.starts_with(kind)).unwrap_or_default();
        let state: Value = serde_json::from_str(&line[kind.len()..])?;
        assert_eq!(state.get("pid"), pid.map(Value::from).as_ref(), "{line}");
    }
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn hooks_for_the_end_run_after_a_create_that_failed_on_the_way() -> Result<()> {
    let bundle = server()?;
    let seen = bundle.folder.join("seen");
    bundle.edit_config(|config| {
        config["hooks"]["createRuntime"] =
            hook(&format!("echo begun >>{}; exit 3", seen.display()));
        config["hooks"]["poststop"] = hook(&format!("tr -d '\\n' >>{}", seen.display()));
    })?;
    let shim = bundle.start()?;
    let refusal = shim.create(&bundle.create_request()).expect_err("is refused");
    assert!(refusal.message.contains("exit code 3"), "{refusal:?}");
    let seen = fs::read_to_string(&seen)?;
    assert!(seen.starts_with("begun\n{") && seen.contains("stopped"), "{seen}");
    assert_eq!(seen.matches("ociVersion").count(), 1, "{seen}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_hook_that_hangs_keeps_its_caller_no_longer_than_it_waits() -> Result<()> {
    for kind in ["createRuntime", "createContainer", "poststart"] {
        let bundle = server()?;
        bundle.edit_config(|config| config["hooks"][kind] = hook("exec sleep 1000"))?;
        let shim = bundle.start()?;
        let (begin, patience) = (Instant::now(), Duration::from_secs(8));
        let created = shim.create_within(patience, &bundle.create_request());
        let refused = match kind {
            "poststart" => created.and_then(|_| shim.start_within(patience, &bundle.id)),
            _ => created.map(drop),
        };
        let message = refused.expect_err("it hangs").message;
        assert!(begin.elapsed() < wait::patient(SOON), "{message}");
        let reason =
            if kind == "createContainer" { "not ready in time" } else { "did not end within" };
        assert!(message.contains(reason), "{kind}: {message}");
        let ended = || {
            let family = processes::family(&bundle.shim()?);
            Ok(family.iter().all(|it| !it.command.contains("sleep")).then_some(()))
        };
        wait::until(SOON, "the hook to end", ended).with_context(|| kind)?;
        if kind == "poststart" {
            granted(shim.kill_all(&bundle.id, SIGKILL))?;
            granted(shim.delete(&bundle.id))?;
        }
        ends(&shim, &bundle)?;
        bundle.close()?;
    }
    Ok(())
}
