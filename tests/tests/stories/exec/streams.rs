//! Stdio of exec processes: background processes that keep it open, terminals, and many bytes.

use std::fs;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use tests::ctr::Run;
use tests::shim::Bundle;
use tests::wait::{self, SOON};
use tests::{Container, Pod, command, on_each_containerd, processes};

use super::FOREVER;
use crate::shim::{ends, granted};

#[test]
fn the_nodes_null_device_cannot_be_changed_through_a_stream_that_goes_nowhere() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("nowhere"))?;
        let app = pod.run(&Container::shell("app", &node.image("linux")?, FOREVER))?;
        app.wait_for_output("ready")?;
        // This is the mode that it has, so that the machine does not change if it is not refused.
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
            // containerd 1.x has no limit for this: it waits for ever with every runtime.
            return Ok(());
        }
        let pod = node.run_pod(&Pod::new("probed"))?;
        let app = pod.run(&Container::shell("app", &node.image("linux")?, FOREVER))?;
        app.wait_for_output("ready")?;
        let start = Instant::now();
        let error = app.exec(&["sh", "-c", "sleep 1000 &"]).expect_err("its output never ends");
        assert!(format!("{error:#}").contains("failed to drain exec process"), "{error:#}");
        assert!(start.elapsed() < wait::patient(SOON), "it took {:?}", start.elapsed());
        let said = app.exec(&["sh", "-c", "{ sleep 1; echo late; } & echo early"])?.success()?;
        assert_eq!(said.stdout, "early\nlate\n");
        Ok(())
    })
}

#[test]
fn a_terminal_is_one_and_has_a_size() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.ctr_image("linux")?;
        let id = node.ctr.new_id();
        node.ctr.run_detached(&id, &Run::new(&image).command(&["sleep", "1000"]))?.success()?;
        // The size is set a moment after the start.
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

/// Output of a command on a terminal of 33 lines of 99 characters.
fn on_a_terminal(line: &str) -> Result<String> {
    let sized = format!("stty rows 33 cols 99; {line}");
    let output = command::run("script", ["--quiet", "--return", "--command", &sized, "/dev/null"])?;
    Ok(output.success()?.stdout)
}
