//! Single containers without a Pod, as `ctr`, `nerdctl` and `docker` run them.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use anyhow::Result;
use tests::ctr::Run;
use tests::wait::{self, SOON};
use tests::{Node, on_each_containerd};

/// Option of `ctr` for images whose platform is WASI.
const WASI: &[&str] = &["--platform", "wasip2/wasm"];

#[test]
fn each_form_of_image_runs_with_its_own_entrypoint() -> Result<()> {
    on_each_containerd(|node| {
        let forms: [(&str, &[&str], &str); 4] = [
            ("hello", &[], "hello from wasi\n"),
            ("hello-layer", WASI, "hello from wasi\n"),
            ("hello-c", &[], "hello from c\nargc=1\nargv[0]=/hello-c.wasm\nGREETING=(not set)\n"),
            ("hello-wat", &[], "hello from wat\n"),
        ];
        for (name, flags, expected) in forms {
            // `ctr` 1.6 counts wasm layers among those to unpack and refuses; through CRI it takes them.
            if name == "hello-layer" && node.containerd.major == 1 {
                continue;
            }
            let run = Run::new(&node.ctr_image(name)?).flags(flags);
            let output = node.ctr.run_container(&run)?;
            assert_eq!((output.code, output.stdout.as_str()), (0, expected), "{name}: {output:?}");
        }
        Ok(())
    })
}

#[test]
fn exit_codes_and_both_streams_of_a_guest_come_back() -> Result<()> {
    on_each_containerd(|node| {
        let run = Run::new(&node.ctr_image("hello-c")?).command(&["/hello-c.wasm", "42"]);
        assert_eq!(node.ctr.run_container(&run)?.code, 42);

        let run = Run::new(&node.ctr_image("hello")?).command(&["/hello.wasm", "cat", "/nothing"]);
        let output = node.ctr.run_container(&run)?;
        assert_eq!((output.code, output.stdout.as_str()), (1, ""), "{output:?}");
        assert!(output.stderr.contains("/nothing"), "{output:?}");
        Ok(())
    })
}

#[test]
fn exit_codes_and_both_streams_of_a_linux_container_come_back() -> Result<()> {
    on_each_containerd(|node| {
        let script = ["sh", "-c", "cat; echo err >&2; exit 7"];
        let run = Run::new(&node.ctr_image("linux")?).command(&script).stdin("in and out\n");
        let output = node.ctr.run_container(&run)?;
        assert_eq!((output.code, output.stdout.as_str()), (7, "in and out\n"), "{output:?}");
        assert!(output.stderr.ends_with("err\n"), "{output:?}");
        Ok(())
    })
}

#[test]
fn a_program_of_the_node_logs_what_a_container_writes() -> Result<()> {
    on_each_containerd(|node| {
        let folder = node.volume("logger")?;
        let (program, log) = (folder.join("logger"), folder.join("log"));
        let script = "#!/bin/sh\nexec 5>&-\n{ echo $CONTAINER_ID; cat <&3; cat <&4; } > $2\n";
        fs::write(&program, script)?;
        fs::set_permissions(&program, Permissions::from_mode(0o755))?;
        let uri = format!("binary://{}?to={}", program.display(), log.display());
        let words = ["sh", "-c", "echo err >&2; echo out"];
        let failure = ["/hello.wasm", "cat", "/nothing"];
        for (image, words, logged) in
            [("linux", &words, "out\nerr\n"), ("hello", &failure, "/nothing")]
        {
            let id = node.ctr.new_id();
            let run = Run::new(&node.ctr_image(image)?).command(words).flags(&["--log-uri", &uri]);
            let output = node.ctr.run_container_as(&id, &run)?;
            assert_eq!(output.stdout, "", "{output:?}");
            wait::until(SOON, &format!("{logged:?} in the log of {id}"), || {
                let text = fs::read_to_string(&log)?;
                Ok((text.starts_with(&format!("{id}\n")) && text.contains(logged)).then_some(()))
            })?;
        }
        let uri = format!("binary://{}", folder.join("no-logger").display());
        let run = Run::new(&node.ctr_image("linux")?).flags(&["--log-uri", &uri]);
        let output = node.ctr.run_container(&run)?;
        assert!(output.code != 0 && output.stderr.contains("no-logger"), "{output:?}");
        Ok(())
    })
}

#[test]
fn the_metrics_of_a_task_are_shown() -> Result<()> {
    on_each_containerd(|node| {
        for (image, words) in
            [("hello", ["/hello.wasm", "sleep", "60"]), ("linux", ["sleep", "60", ""])]
        {
            let id = node.ctr.new_id();
            let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
            let run = Run::new(&node.ctr_image(image)?).command(&words);
            node.ctr.run_detached(&id, &run)?.success()?;
            let shown = node.ctr.run("default", &["tasks", "metrics", &id])?.success()?.stdout;
            for what in ["memory", "cpu", "pids.current"] {
                assert!(shown.contains(what), "no {what} in {shown}");
            }
            node.ctr.run("default", &["tasks", "delete", "--force", &id])?.success()?;
            node.ctr.run("default", &["containers", "delete", &id])?.success()?;
        }
        Ok(())
    })
}

#[test]
fn an_artifact_runs_in_a_pod() -> Result<()> {
    // `ctr run` refuses such an image by itself: its configuration is none of Docker's or OCI's.
    on_each_containerd(|node| {
        let pod = node.run_pod(&tests::Pod::new("artifact"))?;
        let image = node.image("hello-artifact")?;
        let container = tests::Container::new("app", &image).command(&["/"]);
        let container = pod.run(&container.args(&["args", "from an artifact"]))?;
        assert_eq!(container.wait()?.code, 0, "{:?}", container.logs()?);
        assert_eq!(container.logs()?.stdout, "from an artifact\n");
        Ok(())
    })
}

#[test]
fn a_signal_ends_a_guest_and_later_ones_find_nobody() -> Result<()> {
    on_each_containerd(|node| {
        let sleep = ["/hello.wasm", "sleep", "1000"];
        // An image may ask for any of them (STOPSIGNAL).
        let signals = [("SIGTERM", 143), ("SIGINT", 130), ("SIGQUIT", 131), ("SIGHUP", 129)];
        for (signal, code) in signals.into_iter().chain([("SIGUSR1", 138), ("SIGUSR2", 140)]) {
            ends_on(node, "hello", &sleep, signal, code)?;
        }
        ends_on(node, "hello", &["/hello.wasm", "spin"], "SIGKILL", 137)
    })
}

#[test]
fn a_signal_ends_a_linux_container_and_later_ones_find_nobody() -> Result<()> {
    on_each_containerd(|node| ends_on(node, "linux", &["sleep", "1000"], "SIGKILL", 137))
}

/// Starts a container, sends the signal, and goes through what is allowed before and after.
fn ends_on(node: &Node, image: &str, command: &[&str], signal: &str, code: i32) -> Result<()> {
    let id = node.ctr.new_id();
    let run = Run::new(&node.ctr_image(image)?).command(command);
    node.ctr.run_detached(&id, &run)?.success()?;

    let ctr = |words: &[&str]| node.ctr.run("default", words);
    let too_early = ctr(&["tasks", "delete", &id])?;
    assert_ne!(too_early.code, 0, "a running task was deleted");

    ctr(&["tasks", "kill", "--signal", signal, &id])?.success()?;
    wait::until(SOON, "the task to stop", || Ok(node.ctr.is(&id, "STOPPED")?.then_some(())))?;
    let too_late = ctr(&["tasks", "kill", &id])?;
    assert_ne!(too_late.code, 0, "somebody received a signal after the end");
    let words = &too_late.stderr;
    assert!(words.contains("not found") || words.contains("finished"), "{words}");

    let deleted = ctr(&["tasks", "delete", &id])?.success()?;
    assert!(deleted.stderr.contains(&format!("exit code {code}")), "{deleted:?}");
    ctr(&["containers", "delete", &id])?.success()?;
    Ok(())
}
