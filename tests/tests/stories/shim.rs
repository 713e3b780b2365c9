//! The shim by itself: calls that containerd never makes, and a time without containerd.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::api::{CreateTaskRequest, Status};
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc::Code;
use serde_json::json;
use tests::processes::{Process, shim_of};
use tests::shim::{Answer, Bundle, Refusal, Shim, mount};
use tests::wait::{self, SOON};

const SIGKILL: u32 = 9;

pub fn granted<T>(answer: Answer<T>) -> Result<T> {
    answer.map_err(|Refusal { code, message }| anyhow::anyhow!("{code:?}: {message}"))
}

fn code<T: std::fmt::Debug>(answer: Answer<T>) -> Code {
    answer.expect_err("is refused").code
}

/// Shuts the shim down, and waits until it has.
pub fn ends(shim: &Shim, bundle: &Bundle) -> Result<()> {
    shim.end(&bundle.id)?;
    assert!(!shim.socket.exists(), "{} is left", shim.socket.display());
    Ok(())
}

#[test]
fn a_container_lives_and_ends_while_containerd_is_away() -> Result<()> {
    let bundle = Bundle::shell("read code; exit $code")?;
    let id = bundle.id.as_str();
    let stdin = bundle.fifo("stdin")?;
    let shim = bundle.start()?;
    let mut request = bundle.create_request();
    request.set_stdin(stdin.display().to_string());
    let pid = granted(shim.create(&request))?;
    assert_eq!(shim.status(id), Ok(Status::CREATED));
    assert_eq!(
        shim.create(&bundle.create_request()).map_err(|r| r.code),
        Err(Code::ALREADY_EXISTS)
    );
    assert!(Path::new(&format!("/proc/{pid}")).exists(), "the second Create harmed the first");

    granted(shim.start(id))?;
    assert_eq!(code(shim.start(id)), Code::FAILED_PRECONDITION);
    assert_eq!(code(shim.delete(id)), Code::FAILED_PRECONDITION);
    let told = thread::scope(|scope| {
        let waiting = scope.spawn(|| shim.wait(id));
        fs::write(&stdin, "7\n").map(|()| waiting.join().expect("no panic"))
    })?;
    assert_eq!(told, Ok(7));
    assert_eq!(shim.status(id), Ok(Status::STOPPED));
    assert_eq!(shim.wait(id), Ok(7), "asked after the end");
    assert_eq!(code(shim.kill(id, SIGKILL)), Code::NOT_FOUND);
    assert_eq!(code(shim.start(id)), Code::NOT_FOUND);

    // The container still exists, so Shutdown has no effect yet.
    shim.shutdown();
    assert_eq!(shim.delete(id), Ok(7));
    assert_eq!(code(shim.delete(id)), Code::NOT_FOUND);
    assert_eq!(code(shim.status(id)), Code::NOT_FOUND);
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_shim_that_containerd_has_lost_ends_when_its_bundle_is_removed() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000")?;
    let shim = bundle.start()?;
    let process = bundle.shim()?;
    // If containerd is killed before it saves the shim's address, it removes the bundle and does not call the shim.
    fs::remove_dir_all(&bundle.folder)?;
    wait::until(SOON, "the shim to end", || Ok(Process::at(process.pid).is_none().then_some(())))?;
    assert!(!shim.socket.exists(), "{} is left", shim.socket.display());
    bundle.close()
}

#[test]
fn a_shim_whose_log_has_no_reader_ends_when_its_bundle_is_removed() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000")?;
    // If the caller of Create is gone, containerd kills `start`, and closes the log before it removes the bundle.
    fs::remove_file(bundle.folder.join("log"))?;
    bundle.fifo("log")?;
    let shim = bundle.start()?;
    assert_eq!(code(shim.status(&bundle.id)), Code::NOT_FOUND);
    let process = bundle.shim()?;
    fs::remove_dir_all(&bundle.folder)?;
    wait::until(SOON, "the shim to end", || Ok(Process::at(process.pid).is_none().then_some(())))?;
    bundle.close()
}

#[test]
fn an_unknown_container_and_an_unknown_signal_are_told_apart() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000")?;
    let shim = bundle.start()?;
    for answer in [shim.start("none"), shim.kill("none", SIGKILL), shim.wait("none").map(drop)] {
        let refusal = answer.expect_err("is refused");
        assert_eq!(refusal.code, Code::NOT_FOUND);
        assert!(refusal.message.contains("none"), "{refusal:?}");
    }
    granted(shim.create(&bundle.create_request()))?;
    assert_eq!(code(shim.kill(&bundle.id, 99)), Code::INVALID_ARGUMENT);
    // Never started: Delete ends it.
    assert_eq!(shim.delete(&bundle.id), Ok(128 + SIGKILL));
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn of_two_creates_at_once_one_makes_the_container() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000")?;
    let shim = bundle.start()?;
    let request = bundle.create_request();
    let answers: Vec<_> = thread::scope(|scope| {
        let calls = [(); 8].map(|()| scope.spawn(|| shim.create(&request)));
        calls.into_iter().map(|call| call.join().expect("no panic")).collect()
    });
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1, "{made:?}");
    assert!(refused.into_iter().all(|answer| code(answer) == Code::ALREADY_EXISTS));
    granted(shim.start(&bundle.id))?;
    granted(shim.kill(&bundle.id, SIGKILL))?;
    assert_eq!(shim.wait(&bundle.id), Ok(137));
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_guest_is_loaded_while_it_waits_for_start() -> Result<()> {
    let bundle = Bundle::guest("hello")?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let guest = Process::at(i32::try_from(pid)?).context("no process")?;
    let cache = bundle.cache();
    wait::until(SOON, "the guest's code to be mapped before Start", || {
        Ok(guest.mapped(&cache).ok())
    })?;
    assert_eq!(shim.status(&bundle.id), Ok(Status::CREATED));
    granted(shim.start(&bundle.id))?;
    assert_eq!(shim.wait(&bundle.id), Ok(0));
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_create_whose_caller_has_lost_patience_is_taken_back_by_delete() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000")?;
    let shim = bundle.start()?;
    let hurried = shim.create_within(Duration::from_millis(1), &bundle.create_request());
    assert!(hurried.is_err(), "made in a millisecond: {hurried:?}");
    // containerd does this next. NotFound would leave a container that it does not know.
    assert_eq!(shim.delete(&bundle.id), Ok(137));
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_shim_that_is_to_end_while_a_container_is_made_ends_with_that_container() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000")?;
    let shim = bundle.start()?;
    let hurried = shim.create_within(Duration::from_millis(1), &bundle.create_request());
    assert!(hurried.is_err(), "made in a millisecond: {hurried:?}");
    shim.shutdown();
    assert_eq!(shim.delete(&bundle.id), Ok(137));
    wait::until(SOON, "the shim to end", || Ok(shim_of(&bundle.id).is_err().then_some(())))?;
    bundle.close()
}

#[test]
fn a_root_that_cannot_be_mounted_is_named() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let shim = bundle.start()?;
    let mut request = bundle.create_request();
    let good = request.rootfs.clone();
    let bad = mount("overlay", Path::new("overlay"), &["lowerdir=/nowhere", "upperdir=/nor-here"]);
    request.set_rootfs(good.into_iter().chain([bad]).collect());
    let refusal = shim.create(&request).expect_err("is refused");
    for word in ["overlay", "rootfs"] {
        assert!(refusal.message.contains(word), "{refusal:?}");
    }
    assert!(bundle.log()?.contains(&refusal.message), "not in the log: {refusal:?}");
    assert_eq!(fs::read_dir(bundle.rootfs())?.count(), 0, "the first mount stayed");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_missing_or_malformed_config_fails_the_start_of_the_shim() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let cases = [
        ("{\"ociVersion\": \"1.0.2\", \"process\": 7}", "line 1"),
        ("not JSON", "line 1"),
        ("", "EOF"),
        ("{\"ociVersion\": \"1.0.2\", \"root\": {\"path\": \"rootfs\"}}", "process is missing"),
    ];
    for (text, reason) in cases {
        fs::write(bundle.folder.join("config.json"), text)?;
        let output = bundle.execute(&["start"])?;
        assert_eq!(output.code, 1, "{text:?}: {output:?}");
        for word in ["config.json", reason] {
            assert!(output.stderr.contains(word), "{text:?}: {output:?}");
        }
    }
    fs::remove_file(bundle.folder.join("config.json"))?;
    let output = bundle.execute(&["start"])?;
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("config.json: No such file"), "{output:?}");
    bundle.close()
}

#[test]
fn a_config_that_goes_bad_after_the_start_fails_create() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let shim = bundle.start()?;
    bundle.write_config(&json!({ "ociVersion": "1.0.2", "root": { "path": 5 } }))?;
    let refusal = shim.create(&bundle.create_request()).expect_err("is refused");
    assert_eq!(refusal.code, Code::INVALID_ARGUMENT);
    assert!(refusal.message.contains("config.json"), "{refusal:?}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn runtime_options_of_another_runtime_are_refused_by_their_type() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let shim = bundle.start()?;
    let mut request = bundle.create_request();
    let options = Any { type_url: "io.example.Options".into(), ..Default::default() };
    request.options = MessageField::some(options);
    let refusal = shim.create(&request).expect_err("is refused");
    assert_eq!(refusal.code, Code::INVALID_ARGUMENT);
    assert!(refusal.message.contains("io.example.Options"), "{refusal:?}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn an_image_is_not_looked_up_where_containerd_is_gone() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let config = fs::read_to_string(bundle.folder.join("config.json"))?;
    fs::write(bundle.folder.join("config.json"), config.replace("/bin/sh", "/app.wasm"))?;
    let shim = bundle.start()?;
    let refusal = shim.create(&bundle.create_request()).expect_err("is refused");
    for word in ["/app.wasm", "c.sock"] {
        assert!(refusal.message.contains(word), "no {word} in {refusal:?}");
    }
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_start_that_cannot_tell_its_address_leaves_no_shim() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    fs::create_dir(bundle.folder.join("address"))?;
    let output = bundle.execute(&["start"])?;
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.stderr.contains("address"), "{output:?}");
    assert!(shim_of(&bundle.id).is_err(), "a shim nobody knows of");
    bundle.close()
}

#[test]
fn an_exec_id_is_used_once_and_what_has_no_terminal_has_no_size() -> Result<()> {
    let bundle = Bundle::shell("while :; do sleep 0.1; done")?;
    let id = bundle.id.as_str();
    let shim = bundle.start()?;
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(id))?;
    granted(shim.exec(id, "probe", &["true"]))?;
    assert_eq!(code(shim.exec(id, "probe", &["true"])), Code::ALREADY_EXISTS);
    // There is nothing to do, as in runc's shim.
    granted(shim.resize(id, ""))?;
    assert_eq!(code(shim.resize(id, "another")), Code::NOT_FOUND);
    granted(shim.kill(id, SIGKILL))?;
    granted(shim.wait(id))?;
    granted(shim.delete(id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_slow_reader_loses_nothing_and_does_not_hold_up_the_shim() -> Result<()> {
    let bundle = Bundle::shell("seq 1 100000")?;
    let id = bundle.id.as_str();
    let path = bundle.fifo("stdout")?;
    let stdout = path.display().to_string();
    let shim = bundle.start()?;
    granted(shim.create(&CreateTaskRequest { stdout, ..bundle.create_request() }))?;
    let mut reader = File::open(&path)?;
    granted(shim.start(id))?;
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    // Less at a time than the fifo holds, and the process waits for most of it.
    while text.len() < 400_000 {
        let read = reader.read(&mut chunk)?;
        text.extend_from_slice(&chunk[..read]);
        assert_eq!(granted(shim.status(id))?, Status::RUNNING);
    }
    reader.read_to_end(&mut text)?;
    assert_eq!(granted(shim.wait(id))?, 0);
    granted(shim.delete(id))?;
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    assert!(text == expected.as_bytes(), "{} of {} bytes", text.len(), expected.len());
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_second_start_in_a_pod_finds_the_same_shim() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let first = bundle.start()?;
    let before = bundle.shim()?;
    let second = bundle.start()?;
    assert_eq!(first.socket, second.socket);
    assert_eq!(bundle.shim()?.pid, before.pid);
    // The second one runs as long as it has a container.
    granted(second.create(&bundle.create_request()))?;
    granted(second.delete(&bundle.id))?;
    ends(&first, &bundle)?;
    bundle.close()
}

#[test]
fn version_and_info_are_told_without_a_bundle() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let version = bundle.execute(&["-v"])?.success()?.stdout;
    assert!(version.starts_with("containerd-shim-wasmtime-v1 0."), "{version}");
    let info = bundle.execute(&["-info"])?.success()?.stdout;
    assert!(info.contains("io.containerd.wasmtime.v1"), "{info:?}");
    let unknown = bundle.execute(&["restart"])?;
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(unknown.stderr.contains("restart"), "{unknown:?}");
    bundle.close()
}

#[test]
fn the_shim_joins_the_cgroup_that_its_options_name() -> Result<()> {
    tests::on_each_containerd(|node| {
        let spec = tests::Pod::new("grouped").handler("wasmtime-options");
        let name = format!("{}/shims", node.cgroup_parent());
        let error = node.run_pod(&spec).map(drop).expect_err("there is no such cgroup");
        assert!(format!("{error:#}").contains(&name), "{error:#}");

        let group = tests::cgroups::create(&name)?;
        let pod = node.run_pod(&spec)?;
        let cgroups = fs::read_to_string(format!("/proc/{}/cgroup", pod.shim()?.pid))?;
        assert!(cgroups.contains(&name), "no {name} in {cgroups}");
        pod.stop()?;
        pod.remove()?;
        tests::cgroups::remove(&group)
    })
}

#[test]
fn a_mistyped_runtime_option_fails_the_pod_by_its_name() -> Result<()> {
    tests::on_each_containerd(|node| {
        let pod = node.run_pod(&tests::Pod::new("mistyped").handler("wasmtime-mistyped"));
        let error = pod.map(drop).context("is refused").expect_err("is refused");
        let text = format!("{error:#}");
        for word in ["SystemdCGroup", "SystemdCgroup"] {
            assert!(text.contains(word), "no {word} in {text}");
        }
        Ok(())
    })
}
