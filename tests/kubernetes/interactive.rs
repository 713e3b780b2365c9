//! A user inside a Pod: attach, debug, exec and terminals.

use std::fs;
use std::thread;

use anyhow::Result;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    ("a_debug_container_looks_into_a_pod", a_debug_container_looks_into_a_pod),
    ("input_reaches_a_container_by_attach", input_reaches_a_container_by_attach),
    ("a_command_in_a_linux_container", a_command_in_a_linux_container),
    ("a_command_in_a_wasi_container", a_command_in_a_wasi_container),
    ("probes_by_command", probes_by_command),
    ("hooks_by_command", hooks_by_command),
    ("files_are_copied_in_and_out", files_are_copied_in_and_out),
    ("a_shell_at_a_terminal", a_shell_at_a_terminal),
];

/// A container of each kind, which stay.
const STAYING: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: staying }
spec:
  runtimeClassName: wasmtime
  volumes:
    - { name: shared, emptyDir: {} }
  containers:
    - name: guest
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [sleep, "1000"]
      env: [{ name: COLOUR, value: green }]
      volumeMounts: &mounts [{ name: shared, mountPath: /shared }]
    - name: linux
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      command: [/bin/sh, -c, "trap 'exit 0' TERM; while :; do sleep 0.2; done"]
      env: [{ name: COLOUR, value: green }]
      volumeMounts: *mounts
"#;

/// In the process namespace of the guest, which has no shell of its own.
fn a_debug_container_looks_into_a_pod(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(STAYING)?;
    namespace.until_ready("staying")?;
    let image = namespace.cluster.with_images("registry.example/samples/linux:1");
    let debug = ["debug", "staying", "--container=debugger", "--image", &image];
    let flags = ["--image-pull-policy=IfNotPresent", "--target=guest", "--profile=general", "--"];
    // The profile lets it trace; still there is nothing of the node to be read.
    let shell = ["/bin/sh", "-c", "cat /proc/1/comm; tr -d '\\0' < /proc/1/environ"];
    namespace.must(&[&debug[..], &flags, &shell].concat())?;
    namespace.until_pod("staying", "to have been debugged", |pod| {
        let status = &pod["status"]["ephemeralContainerStatuses"][0];
        status["state"]["terminated"]["exitCode"] == 0
    })?;
    let logs = namespace.must(&["logs", "staying", "--container=debugger"])?;
    assert_eq!(logs, "wasm\n");
    Ok(())
}

fn input_reaches_a_container_by_attach(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: reader }
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  containers:
    - name: app
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [stdin]
      stdin: true
      stdinOnce: true
    - name: linux
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      command: [cat]
      stdin: true
      stdinOnce: true
"#,
    )?;
    namespace.until_ready("reader")?;
    for container in ["app", "linux"] {
        let attach = ["attach", "reader", "--stdin", "--container", container];
        let output = namespace.kubectl_with_input(&attach, "typed\n")?.success()?;
        assert_eq!(output.stdout, "typed\n", "{container}: {}", output.stderr);
    }
    namespace.until_phase("reader", "Succeeded")?;
    assert_eq!(namespace.must(&["logs", "reader", "--container=app"])?, "typed\n");
    Ok(())
}

fn a_command_in_a_linux_container(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(STAYING)?;
    namespace.until_ready("staying")?;
    let exec = ["exec", "staying", "--container=linux"];
    let shell = ["--", "sh", "-c", "echo $COLOUR; echo problem >&2; exit 7"];
    let output = namespace.kubectl(&[&exec[..], &shell].concat())?;
    assert_eq!((output.code, output.stdout.as_str()), (7, "green\n"), "{}", output.stderr);
    assert!(output.stderr.starts_with("problem\n"), "{}", output.stderr);
    let copy = [&exec[..], &["--stdin", "--", "cat"]].concat();
    let output = namespace.kubectl_with_input(&copy, "typed\n")?.success()?;
    assert_eq!(output.stdout, "typed\n");
    let missing = namespace.kubectl(&[&exec[..], &["--", "no-such-program"]].concat())?;
    assert!(missing.code != 0 && missing.stderr.contains("no-such-program"), "{missing:?}");
    assert_eq!(namespace.pod("staying")?["status"]["containerStatuses"][1]["restartCount"], 0);
    Ok(())
}

/// The guest's own program with other arguments, in its file tree and with its env.
fn a_command_in_a_wasi_container(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(STAYING)?;
    namespace.until_ready("staying")?;
    let exec = |words: &[&str]| {
        let exec = ["exec", "staying", "--container=guest", "--", "/hello.wasm"];
        namespace.kubectl(&[&exec, words].concat())
    };
    assert_eq!(exec(&["args", "a", "b c"])?.success()?.stdout, "a\nb c\n");
    assert_eq!(exec(&["env", "COLOUR"])?.success()?.stdout, "green\n");
    exec(&["write", "/shared/file", "by exec"])?.success()?;
    assert_eq!(exec(&["cat", "/shared/file"])?.success()?.stdout, "by exec\n");
    assert_eq!(exec(&["exit", "1"])?.code, 1);
    let trap = exec(&["trap"])?;
    assert_eq!(trap.code, 134);
    assert!(trap.stderr.contains("wasm backtrace"), "{}", trap.stderr);
    // The container itself has not noticed.
    assert_eq!(namespace.container("staying")?["restartCount"], 0);
    Ok(())
}

fn probes_by_command(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: probed }
spec:
  runtimeClassName: wasmtime
  volumes:
    - { name: shared, emptyDir: {} }
  containers:
    - name: guest
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [sleep, "1000"]
      readinessProbe: { exec: { command: [/hello.wasm, cat, /shared/ready] }, periodSeconds: 1 }
      volumeMounts: &mounts [{ name: shared, mountPath: /shared }]
    - name: linux
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      command: [/bin/sh, -c, "trap 'exit 0' TERM; sleep 5; touch /shared/ready; while :; do sleep 0.2; done"]
      readinessProbe: { exec: { command: [test, -e, /shared/ready] }, periodSeconds: 1 }
      livenessProbe: { exec: { command: [test, -d, /shared] }, periodSeconds: 1 }
      volumeMounts: *mounts
"#,
    )?;
    namespace.until("the probes to fail at first", || {
        Ok(namespace.events("probed")?.contains("Readiness probe failed"))
    })?;
    namespace.until_ready("probed")?;
    let statuses = &namespace.pod("probed")?["status"]["containerStatuses"];
    assert_eq!(statuses[0]["restartCount"], 0);
    assert_eq!(statuses[1]["restartCount"], 0);
    Ok(())
}

fn hooks_by_command(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: hooked }
spec:
  runtimeClassName: wasmtime
  volumes:
    - { name: shared, emptyDir: {} }
  containers:
    - name: guest
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [sleep, "1000"]
      lifecycle:
        postStart: { exec: { command: [/hello.wasm, write, /shared/guest-started, hook] } }
        preStop: { exec: { command: [/hello.wasm, write, /shared/guest-stops, hook] } }
      volumeMounts: &mounts [{ name: shared, mountPath: /shared }]
    - name: linux
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      # Tells what the others' hooks did, and lives on long enough to see all of it.
      command:
        - /bin/sh
        - -c
        - |
          trap 'stopping=1' TERM
          while [ -z "$stopping" ] || [ ! -e /shared/guest-stops ]; do sleep 0.2; done
          ls /shared
      lifecycle:
        postStart: { exec: { command: [touch, /shared/linux-started] } }
        preStop: { exec: { command: [touch, /shared/linux-stops] } }
      volumeMounts: *mounts
"#,
    )?;
    namespace.until_ready("hooked")?;
    // Somebody has to read what is said at the end, before the Pod is gone.
    let said = thread::scope(|scope| {
        let follow = ["logs", "hooked", "--container=linux", "--follow"];
        let logs = scope.spawn(move || namespace.must(&follow));
        namespace.must(&["delete", "pod", "hooked", "--timeout=60s"])?;
        logs.join().expect("no panic")
    })?;
    assert_eq!(said, "guest-started\nguest-stops\nlinux-started\nlinux-stops\n");
    Ok(())
}

fn files_are_copied_in_and_out(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(STAYING)?;
    namespace.until_ready("staying")?;
    let folder = tempfile::tempdir()?;
    let (source, copy) = (folder.path().join("source"), folder.path().join("copy"));
    fs::write(&source, "some text\n")?;
    let there = "staying:/shared/file";
    let cp = |from: &str, to: &str| namespace.must(&["cp", "--container=linux", from, to]);
    cp(&source.display().to_string(), there)?;
    cp(there, &copy.display().to_string())?;
    assert_eq!(fs::read_to_string(copy)?, "some text\n");
    Ok(())
}

fn a_shell_at_a_terminal(namespace: &Namespace<'_>) -> Result<()> {
    let image = namespace.cluster.with_images("registry.example/samples/linux:1");
    let overrides = r#"{"spec":{"runtimeClassName":"wasmtime"}}"#;
    let run = ["run", "shell", "--stdin", "--tty", "--rm", "--restart=Never", "--image", &image];
    let flags = ["--image-pull-policy=IfNotPresent", "--overrides", overrides, "--", "/bin/sh"];
    let words = [&run[..], &flags].concat();
    let output = namespace.kubectl_at_terminal(&words, "tty; echo $((6 * 7))\nexit 3\n")?;
    assert!(output.stdout.contains("/dev/pts/"), "{output:?}");
    assert!(output.stdout.contains("\n42\r\n"), "{output:?}");
    // kubectl passes the shell's exit code on.
    assert_eq!(output.code, 3, "{output:?}");
    Ok(())
}
