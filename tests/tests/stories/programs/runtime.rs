//! The OCI runtime that makes a program's container: what the shim passes to it, and what happens if it fails, hangs or is missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use containerd_shim_protos::api::{CreateTaskRequest, Status};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::Options;
use containerd_shim_protos::ttrpc::Code;
use serde_json::{Value, json};
use tests::cgroups;
use tests::processes::{self, Process, shim_of};
use tests::shim::Bundle;
use tests::wait::{self, SOON, patient};

use super::{SIGTERM, runs};
use crate::compiling::guest;
use crate::isolation::end;
use crate::shim::{ends, granted};

/// A Create with runc's runtime options.
fn with_options(bundle: &Bundle, options: &Options) -> Result<CreateTaskRequest> {
    let mut request = bundle.create_request();
    let any = Any {
        type_url: "containerd.runc.v1.Options".into(),
        value: options.write_to_bytes()?,
        ..Default::default()
    };
    request.options = MessageField::some(any);
    Ok(request)
}

/// Options that name a runtime which is a shell script in the bundle.
fn fake(bundle: &Bundle, script: &str) -> Result<Options> {
    let program = bundle.folder.join("fake-runtime");
    fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let binary_name = program.display().to_string();
    Ok(Options { binary_name, ..Default::default() })
}

#[test]
fn the_runtime_is_given_the_bundle_as_containerd_wrote_it() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    // Limits that only v2 has, and a field that no library knows.
    bundle.edit_config(|config| {
        config["linux"]["resources"] = json!({ "unified": { "memory.high": "1048576",
            "memory.swap.max": "0" }, "devices": [{ "allow": false, "access": "rwm" }] });
        config["linux"]["inTheFuture"] = json!({ "key": [1, 2] });
    })?;
    let written = fs::read_to_string(bundle.folder.join("config.json"))?;
    let script = "cd ${0%/*}; echo \"$@\" >> args; [ $7 = create ] || exit 0; \
                  cp $9/config.json given; exit 1";
    let mut options = fake(&bundle, script)?;
    options.root = bundle.folder.join("state").display().to_string();
    options.no_pivot_root = true;
    options.no_new_keyring = true;
    let shim = bundle.start()?;
    granted(shim.create(&with_options(&bundle, &options)?)).expect_err("it fails");
    assert_eq!(fs::read_to_string(bundle.folder.join("given"))?, written);
    let args = fs::read_to_string(bundle.folder.join("args"))?;
    let (folder, id) = (bundle.folder.display(), &bundle.id);
    let create = args.lines().next().unwrap_or_default();
    assert!(create.starts_with(&format!("--root {folder}/state/tests --log /proc/")), "{create}");
    let expected = format!(
        "create --bundle {folder} --pid-file {folder}/wasmtime/pid --no-pivot --no-new-keyring {id}"
    );
    assert!(create.ends_with(&expected), "{create}");
    assert!(args.ends_with(&format!("delete --force {id}\n")), "{args}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn what_a_client_asks_for_later_reaches_the_runtime_as_it_was_written() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000")?;
    let script = "cd ${0%/*}; for word in \"$@\"; do case $before in --process | --resources) \
                  cat $word >given$before;; esac; before=$word; done; exec runc \"$@\"";
    let request = with_options(&bundle, &fake(&bundle, script)?)?;
    let (id, shim) = (bundle.id.as_str(), bundle.start()?);
    granted(shim.create(&request))?;
    granted(shim.start(id))?;
    let process = json!({ "cwd": "/", "args": ["/bin/true"], "user": { "uid": 0, "gid": 0 },
        "inTheFuture": { "key": [1, 2] } });
    granted(shim.exec_process(id, "exec", &process, Path::new("")))?;
    granted(shim.start_exec(id, "exec"))?;
    assert_eq!(granted(shim.wait_exec(id, "exec"))?, 0);
    let resources =
        json!({ "memory": { "limit": 64 << 20, "inTheFuture": true }, "inTheFuture": { "a": 1 } });
    granted(shim.update(id, &resources))?;
    let given = |option: &str| -> Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(
            bundle.folder.join(format!("given{option}")),
        )?)?)
    };
    assert_eq!(given("--process")?, process);
    assert_eq!(given("--resources")?, resources);
    end(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn an_exec_that_fails_ends_no_daemon_of_a_container_in_the_nodes_pid_namespace() -> Result<()> {
    const DAEMONS: usize = 60;
    let script = "read go </go; i=0; while [ $i -lt 60 ]; do (setsid sleep 1234 &); i=$((i+1)); \
                  sleep 0.03; done; sleep 1000";
    let bundle = Bundle::shell(script)?;
    let go = bundle.fifo("go")?;
    bundle.edit_config(|config| {
        config["linux"]["namespaces"] = json!([{ "type": "mount" }, { "type": "ipc" }]);
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        mounts.push(json!({ "destination": "/dev/go", "type": "bind", "source": go,
            "options": ["bind"] }));
        let args = script.replace("/go", "/dev/go");
        config["process"]["args"] = json!(["/bin/sh", "-c", args]);
    })?;
    let (id, shim) = (bundle.id.as_str(), bundle.start()?);
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(id))?;
    fs::write(&go, "go\n")?;
    for number in 0..5 {
        let exec_id = format!("exec-{number}");
        granted(shim.exec(id, &exec_id, &["/no/such/program"]))?;
        shim.start_exec(id, &exec_id).expect_err("is not there");
    }
    wait::until(SOON, "all daemons to be there", || {
        let family = processes::family(&shim_of(id)?);
        let daemons = family.iter().filter(|it| it.command.contains("sleep 1234")).count();
        Ok((daemons == DAEMONS).then_some(()))
    })?;
    end(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn systemd_is_asked_for_a_cgroup_where_it_runs_or_the_options_say_so() -> Result<()> {
    let runs = cgroups::is_unified() || Path::new("/run/systemd/system").exists();
    for (option, is_asked) in [(true, true), (false, runs)] {
        let bundle = Bundle::shell("true")?;
        let scope = format!("a.slice:cri-containerd:{}", bundle.id);
        bundle.edit_config(|config| config["linux"]["cgroupsPath"] = scope.clone().into())?;
        let mut options = fake(&bundle, "cd ${0%/*}; echo \"$@\" >> args; exit 1")?;
        options.systemd_cgroup = option;
        let shim = bundle.start()?;
        granted(shim.create(&with_options(&bundle, &options)?)).expect_err("it fails");
        let args = fs::read_to_string(bundle.folder.join("args"))?;
        let flags = if is_asked { "json --systemd-cgroup create" } else { "json create" };
        assert!(args.contains(flags), "{args}");
        let config = fs::read_to_string(bundle.folder.join("config.json"))?;
        assert_eq!(config.contains(&scope), is_asked, "{config}");
        ends(&shim, &bundle)?;
        bundle.close()?;
    }
    Ok(())
}

#[test]
fn without_a_runtime_guests_run_and_a_program_is_refused_with_a_reason() -> Result<()> {
    let mut bundle = Bundle::shell("true")?;
    bundle.set("PATH", "/no/such/directory:/nor/this");
    let shim = bundle.start()?;
    let refusal = shim.create(&bundle.create_request()).expect_err("there is no runtime");
    for word in ["\"runc\"", "/no/such/directory:/nor/this", "BinaryName"] {
        assert!(refusal.message.contains(word), "no {word} in {refusal:?}");
    }
    let options = Options { binary_name: "/no/such/crun".into(), ..Default::default() };
    let refusal = shim.create(&with_options(&bundle, &options)?).expect_err("nor this one");
    assert!(refusal.message.contains("\"/no/such/crun\""), "{refusal:?}");
    let request = guest(&bundle, 0, 1)?;
    granted(shim.create(&request))?;
    granted(shim.start(&bundle.id))?;
    assert_eq!(granted(shim.wait(&bundle.id))?, 0);
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_shim_named_as_the_runtime_is_none() -> Result<()> {
    let bundle = Bundle::shell("exit 6")?;
    let binary_name = "/usr/local/bin/containerd-shim-wasmtime-v1".into();
    let options = Options { binary_name, ..Default::default() };
    assert_eq!(runs(&bundle, &with_options(&bundle, &options)?)?, 6);
    bundle.close()
}

#[test]
fn a_runtime_that_hangs_keeps_neither_its_caller_nor_the_shim() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let options = fake(&bundle, "[ $7 = create ] || exit 0; sleep 1000 & sleep 1000")?;
    let shim = bundle.start()?;
    let start = Instant::now();
    let request = with_options(&bundle, &options)?;
    let refusal = shim.create_within(Duration::from_secs(8), &request).expect_err("it hangs");
    assert!(start.elapsed() < patient(SOON), "{refusal:?}");
    assert!(refusal.message.contains("did not end within"), "{refusal:?}");
    let refusal = shim.status(&bundle.id).expect_err("nothing is there");
    assert_eq!(refusal.code, Code::NOT_FOUND);
    wait::until(SOON, "nothing to be left", || {
        let left = processes::family(&bundle.shim()?);
        Ok(left.iter().all(|it| !it.command.contains("sleep")).then_some(()))
    })?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_trap_in_a_container_keeps_whoever_executes_something_no_longer_than_it_waits() -> Result<()> {
    // runc looks up the user's home before it executes anything, and no process writes to the fifo.
    let script = "mount -t tmpfs none /etc; mkfifo /etc/passwd; trap 'exit 5' TERM; \
                  while :; do sleep 0.1; done";
    let bundle = Bundle::shell(script)?;
    bundle.edit_config(|config| {
        let all: Vec<Value> = ["CAP_SYS_ADMIN", "CAP_KILL"].map(Value::from).into();
        config["process"]["capabilities"] =
            json!({ "bounding": all, "effective": all, "permitted": all });
    })?;
    let (id, shim) = (bundle.id.as_str(), bundle.start()?);
    let pid = granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(id))?;
    let trap = PathBuf::from(format!("/proc/{pid}/root/etc/passwd"));
    wait::until(SOON, "the trap", || Ok(trap.exists().then_some(())))?;
    granted(shim.exec(id, "exec", &["/bin/true"]))?;
    let start = Instant::now();
    shim.start_exec_within(Duration::from_secs(2), id, "exec").expect_err("it does not start");
    assert!(start.elapsed() < patient(SOON));
    assert_eq!(granted(shim.status(id))?, Status::RUNNING);
    wait::until(SOON, "what was to be executed to end", || {
        let left: Vec<Process> = processes::family(&shim_of(id)?);
        Ok(left.iter().all(|it| !it.command.contains("init")).then_some(()))
    })?;
    granted(shim.kill(id, SIGTERM))?;
    assert_eq!(granted(shim.wait(id))?, 5);
    granted(shim.delete(id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn what_runc_reports_of_itself_is_reported() -> Result<()> {
    let mut bundle = Bundle::shell("true")?;
    let info = bundle.execute(&["-info"])?.success()?.stdout;
    for word in ["features/Features", "\"mountOptions\"", "\"rprivate\"", "\"namespaces\""] {
        assert!(info.contains(word), "no {word} in {info}");
    }
    assert!(info.contains("\"rro\""), "{info}");
    bundle.set("PATH", "/no/such/directory");
    let info = bundle.execute(&["-info"])?.success()?.stdout;
    assert!(info.contains("io.containerd.wasmtime.v1") && !info.contains("Features"), "{info}");
    bundle.close()
}
