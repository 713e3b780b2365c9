//! Processes that are executed in a running container: by hand, by probes and by hooks.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tests::ctr::Run;
use tests::shim::Bundle;
use tests::wait::{self, SOON};
use tests::{Container, Pod, RunningContainer, command, on_each_containerd, processes};

use crate::compiling::guest;
use crate::shim::{ends, granted};

/// A Linux container that goes on until it is stopped.
const FOREVER: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";

#[test]
fn a_command_is_executed_in_a_linux_container() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("exec"))?;
        let app = Container::shell("app", &node.image("linux")?, FOREVER)
            .env("COLOUR", "green")
            .working_dir("/www")
            .user(1000, 2000);
        let app = pod.run(&app)?;
        app.wait_for_output("ready")?;
        let script = "echo $COLOUR; pwd; id -u; id -g; echo to stderr >&2; exit 3";
        let output = app.exec(&["sh", "-c", script])?;
        assert_eq!(output.stdout, "green\n/www\n1000\n2000\n");
        assert_eq!((output.stderr.as_str(), output.code), ("to stderr\n", 3));
        // The same processes, files and host name.
        let seen =
            app.exec(&["sh", "-c", "hostname; cat /proc/1/comm; touch /tmp/made && ls /tmp"]);
        assert_eq!(seen?.stdout, "exec\nsh\nmade\n");
        assert!(app.is_running()?);
        Ok(())
    })
}

#[test]
fn what_is_executed_has_no_more_rights_than_the_container() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("rights"))?;
        let status = "grep -E '^(CapBnd|CapEff|CapPrm|NoNewPrivs|Seccomp):' /proc/self/status; \
                      grep -c . /proc/self/cgroup; cat /proc/self/cgroup; umask; ls /proc/self/fd | wc -l";
        let script = format!("{{ {status}; }} > /tmp/first; {FOREVER}");
        let app = Container::shell("app", &node.image("linux")?, &script).runtime_default_seccomp();
        let app = pod.run(&app)?;
        app.wait_for_output("ready")?;
        let first = app.exec(&["cat", "/tmp/first"])?.success()?.stdout;
        assert!(first.contains("Seccomp:\t2"), "{first}");
        let executed = app.exec(&["sh", "-c", status])?.success()?.stdout;
        assert_eq!(executed, first);
        Ok(())
    })
}

#[test]
fn a_filter_of_system_calls_holds_for_another_user_too() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("user"))?;
        let app = Container::shell("app", &node.image("linux")?, FOREVER).user(1000, 2000);
        let app = pod.run(&app.runtime_default_seccomp())?;
        app.wait_for_output("ready")?;
        let status = app.exec(&["grep", "Seccomp:", "/proc/self/status"])?.success()?.stdout;
        assert_eq!(status, "Seccomp:\t2\n");
        Ok(())
    })
}

#[test]
fn a_container_that_sets_a_trap_does_not_keep_a_guest_that_is_executed_in_it() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("trap"))?;
        let volume = node.volume("tools")?;
        let hello = tests::containerd::repository().join("target/images/hello.wasm");
        fs::copy(hello, volume.join("hello.wasm"))?;
        let script = format!("rm -f /etc/passwd; mkdir -p /etc; mkfifo /etc/passwd; {FOREVER}");
        let app = Container::shell("app", &node.image("linux")?, &script);
        let app = pod.run(&app.readonly_mount(&volume, "/tools"))?;
        app.wait_for_output("ready")?;
        assert_eq!(app.exec(&["/tools/hello.wasm"])?.success()?.stdout, "hello from wasi\n");
        Ok(())
    })
}

#[test]
fn what_cannot_be_executed_is_named() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("typo"))?;
        let app = pod.run(&Container::shell("app", &node.image("linux")?, FOREVER))?;
        let error = app.exec(&["/no/such/program"]).expect_err("there is nothing to execute");
        assert!(format!("{error:#}").contains("/no/such/program"), "{error:#}");
        app.stop(Duration::from_secs(10))?;
        let error = app.exec(&["true"]).expect_err("it has ended");
        assert!(
            format!("{error:#}").contains("not running") || format!("{error:#}").contains("EXITED")
        );
        Ok(())
    })
}

#[test]
fn what_is_executed_too_long_is_killed() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("slow"))?;
        let app = pod.run(&Container::shell("app", &node.image("linux")?, FOREVER))?;
        let start = Instant::now();
        let error = app.exec_within(Duration::from_secs(1), &["sleep", "1000"]);
        let error = format!("{:#}", error.expect_err("its time is over"));
        assert!(error.contains("timeout") || error.contains("deadline"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(20));
        let ps = app.exec(&["ps"])?.stdout;
        assert!(!ps.contains("sleep 1000"), "{ps}");
        Ok(())
    })
}

#[test]
fn wasm_of_the_image_is_executed_in_a_guests_container() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("tools"))?;
        let volume = node.volume("shared")?;
        fs::write(volume.join("in"), "from the host\n")?;
        let app = Container::new("app", &node.image("hello")?)
            .args(&["sleep", "1000"])
            .env("COLOUR", "green")
            .readonly_mount(&volume, "/shared");
        let app = pod.run(&app)?;
        app.wait_for_output("sleeping")?;
        let hello = |words: &[&str]| app.exec(&[&["/hello.wasm"], words].concat());
        assert_eq!(hello(&[])?.success()?.stdout, "hello from wasi\n");
        assert_eq!(hello(&["env", "COLOUR"])?.stdout, "green\n");
        assert_eq!(hello(&["cat", "/shared/in"])?.stdout, "from the host\n");
        assert_eq!(hello(&["write", "/shared/in", "changed"])?.code, 1, "the volume is read-only");
        let trapped = hello(&["trap"])?;
        assert!(trapped.code == 134 && trapped.stderr.contains("wasm backtrace"), "{trapped:?}");
        assert!(app.is_running()?);
        let error = format!("{:#}", app.exec(&["/no.wasm"]).expect_err("is not there"));
        assert!(error.contains("/no.wasm"), "{error}");
        Ok(())
    })
}

#[test]
fn exports_of_the_running_guest_are_called_with_arguments() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("calls"))?;
        let app = pod.run(&Container::new("app", &node.image("calc")?))?;
        assert_eq!(app.exec(&["#add", "40", "2"])?.success()?.stdout, "42\n");
        assert_eq!(app.exec(&["invoke", "add(40, 2)"])?.success()?.stdout, "42\n");
        assert_eq!(app.exec(&["/calc.wat#halve", "4"])?.success()?.stdout, "ok(2)\n");
        let odd = app.exec(&["#halve", "5"])?;
        assert_eq!((odd.code, odd.stdout.as_str()), (1, "err(5)\n"));
        let typo = app.exec(&["#add", "40", "two"])?;
        let reason = "argument 2, column 1: ";
        assert!(typo.code == 2 && typo.stderr.contains(reason), "{typo:?}");
        assert!(typo.stderr.contains("add: func(a: u32, b: u32) -> u32"), "{typo:?}");
        // An argument may be a secret.
        assert!(!typo.stderr.contains("two"), "{typo:?}");
        let error = format!("{:#}", app.exec(&["#subtract", "1"]).expect_err("there is none"));
        assert!(error.contains("add: func(a: u32, b: u32) -> u32"), "{error}");
        Ok(())
    })
}

#[test]
fn exports_of_a_core_module_are_called_with_numbers() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("numbers"))?;
        let volume = node.volume("modules")?;
        let module = r#"(module
            (global $base (mut i32) (i32.const 0))
            (func (export "_initialize") (global.set $base (i32.const 100)))
            (func (export "_start") (loop $again (br $again)))
            (func (export "add") (param i32 i32) (result i32)
                (i32.add (global.get $base) (i32.add (local.get 0) (local.get 1)))))"#;
        fs::write(volume.join("app.wat"), module)?;
        let app = Container::new("app", &node.image("hello")?).command(&["/modules/app.wat"]);
        let app = pod.run(&app.readonly_mount(&volume, "/modules"))?;
        assert_eq!(app.exec(&["#add", "2", "3"])?.success()?.stdout, "105\n");
        assert_eq!(app.exec(&["invoke", "add(2, 3)"])?.success()?.stdout, "105\n");
        let typo = app.exec(&["#add", "2", "three"])?;
        let reason =
            "argument 2, column 1: not a number of type i32; the function is add(i32, i32) -> i32";
        assert!(typo.code == 2 && typo.stderr.contains(reason), "{typo:?}");
        let error = format!("{:#}", app.exec(&["#_initialize"]).expect_err("is none to call"));
        assert!(error.contains("allowed is _start(), add(i32, i32) -> i32"), "{error}");
        Ok(())
    })
}

#[test]
fn an_image_of_one_component_is_no_black_box() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("words"))?;
        let volume = node.volume("settings")?;
        fs::write(volume.join("colour"), "green\n")?;
        let app = Container::new("app", &node.image("hello-http")?)
            .env("COLOUR", "blue")
            .user(1000, 2000)
            .readonly_mount(&volume, "/settings");
        let app = pod.run(&app)?;
        let say = |words: &[&str]| -> Result<String> { Ok(app.exec(words)?.success()?.stdout) };
        assert_eq!(say(&["ls", "/settings"])?, "colour\n");
        assert!(say(&["ls", "-l", "/settings"])?.starts_with("-rw"));
        assert_eq!(say(&["cat", "/settings/colour"])?, "green\n");
        assert!(say(&["stat", "/settings/colour"])?.contains("file"));
        let env = say(&["env"])?;
        assert!(env.contains("COLOUR=blue\n") && env.contains("PWD=/\n"), "{env}");
        assert!(say(&["ps"])?.contains("wasm"));
        assert_eq!(say(&["wget", "-qO-", "http://localhost:8080/"])?, "hello from wasi:http\n");
        let wit = say(&["wit"])?;
        assert!(wit.contains("export wasi:http/incoming-handler@0.2"), "{wit}");
        let grants = say(&["grants"])?;
        assert!(grants.contains("user 1000, group 2000"), "{grants}");
        assert!(grants.contains("/settings : read only"), "{grants}");
        assert!(say(&["help"])?.contains("grants"));
        refuses_mistakes(&app)
    })
}

fn refuses_mistakes(app: &RunningContainer<'_>) -> Result<()> {
    for (words, code) in [(&["cat", "/none"][..], 1), (&["ls", "-Z"], 2)] {
        assert_eq!(app.exec(words)?.code, code, "{words:?}");
    }
    let refused = app.exec(&["wget", "http://localhost:8080/file?path=/none"])?;
    assert!(refused.code == 1 && refused.stderr.contains("404"), "{refused:?}");
    let error = format!("{:#}", app.exec(&["sh"]).expect_err("there is no shell"));
    assert!(error.contains("\"sh\"") && error.contains("help"), "{error}");
    Ok(())
}

#[test]
fn a_guest_is_executed_in_a_linux_container() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("both"))?;
        let volume = node.volume("tools")?;
        fs::copy(
            tests::containerd::repository().join("target/images/hello.wasm"),
            volume.join("hello.wasm"),
        )?;
        let app = Container::shell("app", &node.image("linux")?, FOREVER);
        let app = pod.run(&app.readonly_mount(&volume, "/tools"))?;
        let output = app.exec(&["/tools/hello.wasm", "args", "a", "b"])?;
        assert_eq!(output.success()?.stdout, "a\nb\n");
        Ok(())
    })
}

#[test]
fn a_guest_that_computes_is_profiled_while_it_does() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("profiled"))?;
        let app = Container::new("app", &node.image("hello")?).args(&["spin"]).user(1000, 2000);
        let app = pod.run(&app)?;
        app.wait_for_output("spinning")?;
        let profile = app.exec(&["profile", "1s"])?.success()?.stdout;
        let profile: serde_json::Value = serde_json::from_str(&profile)?;
        assert!(profile.to_string().contains("hello::spin"), "{profile}");
        let misused = app.exec(&["profile", "for ever"])?;
        assert!(misused.code == 2 && misused.stderr.contains("profile SECONDS"), "{misused:?}");
        assert!(app.is_running()?);
        Ok(())
    })
}

#[test]
fn the_nodes_null_device_cannot_be_changed_through_a_stream_that_goes_nowhere() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("nowhere"))?;
        let app = pod.run(&Container::shell("app", &node.image("linux")?, FOREVER))?;
        app.wait_for_output("ready")?;
        // The mode that it has: nothing is done to the machine where it is not refused.
        let change = app.exec(&["chmod", "666", "/proc/self/fd/0"])?;
        assert!(change.code == 1 && change.stderr.contains("Read-only"), "{change:?}");
        assert_eq!(app.exec(&["cat"])?.success()?.stdout, "");
        Ok(())
    })
}

#[test]
fn who_is_left_in_the_background_with_the_output_does_not_keep_the_client() -> Result<()> {
    let bundle = Bundle::shell("while :; do sleep 1; done")?;
    let (id, shim) = (bundle.id.as_str(), bundle.start()?);
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(id))?;
    let path = bundle.fifo("said")?;
    let script = ["/bin/sh", "-c", "echo said; sleep 999 & exit 3"];
    granted(shim.exec_to(id, "left", &script, &path))?;
    let reader = thread::spawn(move || fs::read_to_string(path));
    granted(shim.start_exec(id, "left"))?;
    assert_eq!(granted(shim.wait_exec(id, "left"))?, 3);
    granted(shim.end_exec(id, "left"))?;
    wait::until(SOON, "the output to end", || Ok(reader.is_finished().then_some(())))?;
    assert_eq!(reader.join().expect("no panic")?, "said\n");
    let family = processes::family(&processes::shim_of(id)?);
    assert!(family.iter().any(|it| it.command == "sleep 999"), "{family:?}");
    granted(shim.kill(id, 9))?;
    granted(shim.wait(id))?;
    granted(shim.delete(id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_probe_that_leaves_a_process_with_its_output_is_answered() -> Result<()> {
    on_each_containerd(|node| {
        if node.containerd.major == 1 {
            // It has no bound to set: it waits for ever with every runtime.
            return Ok(());
        }
        let pod = node.run_pod(&Pod::new("probed"))?;
        let app = pod.run(&Container::shell("app", &node.image("linux")?, FOREVER))?;
        app.wait_for_output("ready")?;
        let start = Instant::now();
        let error = app.exec(&["sh", "-c", "sleep 1000 &"]).expect_err("its output never ends");
        assert!(format!("{error:#}").contains("failed to drain exec process"), "{error:#}");
        assert!(start.elapsed() < SOON, "it took {:?}", start.elapsed());
        let said = app.exec(&["sh", "-c", "{ sleep 1; echo late; } & echo early"])?.success()?;
        assert_eq!(said.stdout, "early\nlate\n");
        Ok(())
    })
}

#[test]
fn a_start_that_compiles_for_longer_than_its_caller_waits_is_refused_with_the_reason() -> Result<()>
{
    let (bundle, tools) = (Bundle::shell("while :; do sleep 1; done")?, Bundle::shell("true")?);
    guest(&tools, 0, 10_000)?;
    bundle.edit_config(|config| {
        let files = tools.folder.join("files");
        let volume = json!({ "destination": "/tmp", "source": files, "options": ["rbind"] });
        config["mounts"].as_array_mut().expect("mounts").push(volume);
    })?;
    let (id, shim) = (bundle.id.as_str(), bundle.start()?);
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(id))?;
    granted(shim.exec(id, "slow", &["/tmp/app.wat"]))?;
    let refusal = shim.start_exec_within(Duration::from_secs(2), id, "slow");
    let refusal = refusal.expect_err("is refused");
    assert!(refusal.message.contains("still being compiled after 1 s"), "{refusal:?}");
    granted(shim.kill(id, 9))?;
    granted(shim.wait(id))?;
    granted(shim.delete(id))?;
    ends(&shim, &bundle)?;
    bundle.close()?;
    tools.close()
}

#[test]
fn a_thousand_executions_leave_nothing_behind() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("probed"))?;
        let app = pod.run(&Container::shell("app", &node.image("linux")?, FOREVER))?;
        let guest = Container::new("guest", &node.image("hello")?).args(&["sleep", "1000"]);
        let guest = pod.run(&guest)?;
        let shim = pod.shim()?;
        let held = || -> Result<[usize; 3]> {
            let fds = fs::read_dir(format!("/proc/{}/fd", shim.pid))?.count();
            let family = processes::family(&shim);
            let threads = family.iter().filter_map(|process| process.threads().ok()).sum::<u64>();
            Ok([fds, threads as usize, family.len()])
        };
        let execute = || -> Result<()> {
            app.exec(&["true"])?.success()?;
            guest.exec(&["env"])?.success().map(drop)
        };
        execute()?;
        let is_idle = || -> Result<bool> { Ok(shim.threads()? == 1) };
        let before = wait::until(SOON, "the shim to be idle", || {
            let held = if is_idle()? { Some(held()?) } else { None };
            Ok(if is_idle()? { held } else { None })
        })?;
        for _ in 0..500 {
            execute()?;
        }
        wait::until(SOON, "what was executed to be gone", || Ok((held()? == before).then_some(())))
    })
}

#[test]
fn a_terminal_is_one_and_has_a_size() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.ctr_image("linux")?;
        let id = node.ctr.new_id();
        node.ctr.run_detached(&id, &Run::new(&image).command(&["sleep", "1000"]))?.success()?;
        // The size comes a moment after the start.
        let script = "tty; test -t 0 && test -t 1 && test -t 2 && echo all three; \
                      for try in 1 2 3 4 5 6 7 8 9; do stty size | grep 99 && break; sleep 0.5; done 2>/dev/null";
        let words = ["tasks", "exec", "--tty", "--exec-id", "t1", &id, "sh", "-c", script];
        let output = on_a_terminal(&node.ctr.line("default", &words))?;
        assert!(output.contains("/dev/pts/0") && output.contains("all three"), "{output}");
        assert!(output.contains("33 99"), "{output}");
        let run = Run::new(&image).flags(&["--tty"]).command(&["sh", "-c", "tty; ls /dev/console"]);
        let output = on_a_terminal(&node.ctr.run_line(&node.ctr.new_id(), &run)?)?;
        assert!(output.contains("/dev/pts/0") && output.contains("/dev/console"), "{output}");
        node.ctr.run("default", &["tasks", "delete", "--force", &id])?.success()?;
        node.ctr.run("default", &["containers", "delete", &id])?.success()?;
        Ok(())
    })
}

#[test]
fn a_guest_has_a_terminal_too() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.ctr_image("hello")?;
        let run = Run::new(&image).flags(&["--tty"]);
        let run = run.command(&["/hello.wasm", "terminal"]);
        let output = on_a_terminal(&node.ctr.run_line(&node.ctr.new_id(), &run)?)?;
        assert!(output.contains("stdin stdout stderr"), "{output}");
        let run = Run::new(&image).command(&["/hello.wasm", "terminal"]);
        assert_eq!(node.ctr.run_container(&run)?.success()?.stdout, "none\n");
        Ok(())
    })
}

#[test]
fn a_hundred_megabytes_go_in_and_come_out_byte_for_byte() -> Result<()> {
    on_each_containerd(|node| {
        let (linux, hello) = (node.ctr_image("linux")?, node.ctr_image("hello")?);
        let id = node.ctr.new_id();
        node.ctr.run_detached(&id, &Run::new(&linux).command(&["sleep", "1000"]))?.success()?;
        let file = node.volume("bytes")?.join("bytes");
        let make = format!("head --bytes 104857600 /dev/urandom > {}", file.display());
        shell(&make)?;
        let words = ["tasks", "exec", "--exec-id", "cat", &id, "head", "-c", "104857600"];
        let copy = node.ctr.line("default", &words);
        shell(&format!("{copy} < {0} | cmp - {0}", file.display()))?;
        let run = Run::new(&hello).command(&["/hello.wasm", "stdin", "104857600"]);
        let copy = node.ctr.run_line(&node.ctr.new_id(), &run)?;
        shell(&format!("{copy} < {0} | cmp - {0}", file.display()))?;
        node.ctr.run("default", &["tasks", "delete", "--force", &id])?.success()?;
        node.ctr.run("default", &["containers", "delete", &id])?.success()?;
        Ok(())
    })
}

fn shell(line: &str) -> Result<()> {
    command::run("sh", ["-c", line])?.success().map(drop)
}

/// What a command prints on a terminal of 33 lines of 99 characters.
fn on_a_terminal(line: &str) -> Result<String> {
    let sized = format!("stty rows 33 cols 99; {line}");
    let output = command::run("script", ["--quiet", "--return", "--command", &sized, "/dev/null"])?;
    Ok(output.success()?.stdout)
}
