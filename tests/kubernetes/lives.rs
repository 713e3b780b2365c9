//! How containers end, and what Kubernetes makes of it.

use anyhow::Result;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    ("a_job_completes", a_job_completes),
    ("a_trap_is_explained_in_the_pods_status", a_trap_is_explained_in_the_pods_status),
    ("a_trap_leaves_a_core_dump_in_a_volume", a_trap_leaves_a_core_dump_in_a_volume),
    ("a_failing_container_is_started_again", a_failing_container_is_started_again),
    (
        "a_container_is_started_again_until_it_succeeds",
        a_container_is_started_again_until_it_succeeds,
    ),
    ("a_job_fails_with_the_guests_exit_code", a_job_fails_with_the_guests_exit_code),
    ("a_job_of_a_cron_job", a_job_of_a_cron_job),
];

fn a_job_completes(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: batch/v1
kind: Job
metadata: { name: job }
spec:
  completions: 3
  parallelism: 3
  template:
    spec:
      runtimeClassName: wasmtime
      restartPolicy: Never
      containers:
        - { name: app, image: "registry.example/samples/hello:1", imagePullPolicy: Never }
"#,
    )?;
    namespace.must(&["wait", "job/job", "--for=condition=Complete", "--timeout=85s"])?;
    assert_eq!(
        namespace.must(&["logs", "--selector=job-name=job"])?,
        "hello from wasi\n".repeat(3)
    );
    Ok(())
}

fn a_trap_is_explained_in_the_pods_status(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: trap }
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  containers:
    - name: app
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [trap]
"#,
    )?;
    namespace.until_phase("trap", "Failed")?;
    let ended = namespace.ended("trap")?;
    assert_eq!(ended["exitCode"], 134);
    let message = ended["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("error: wasm trap: wasm `unreachable`"), "{ended}");
    // Where in the source: the guest has DWARF.
    assert!(message.contains("wasm backtrace") && message.contains("crash.rs:"), "{ended}");
    assert!(message.contains("last host call: wasi:"), "{ended}");
    let described = namespace.must(&["describe", "pod", "trap"])?;
    assert!(described.contains("wasm trap: wasm `unreachable`"), "{described}");
    Ok(())
}

fn a_trap_leaves_a_core_dump_in_a_volume(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata:
  name: dumped
  annotations: { wasmtime.shim/coredump: /dumps }
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  volumes:
    - { name: dumps, emptyDir: {} }
  containers:
    - name: app
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [trap]
      volumeMounts: &mounts [{ name: dumps, mountPath: /dumps }]
    - name: reader
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      command: [/bin/sh, -c, "until head -c 4 /dumps/core.hello.wasm 2> /dev/null; do sleep 0.2; done"]
      volumeMounts: *mounts
"#,
    )?;
    namespace.until_phase("dumped", "Failed")?;
    assert_eq!(namespace.must(&["logs", "dumped", "--container=reader"])?, "\0asm");
    let logs = namespace.must(&["logs", "dumped", "--container=app"])?;
    assert!(logs.contains("core dump: /dumps/core.hello.wasm"), "{logs}");
    Ok(())
}

fn a_failing_container_is_started_again(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: failing }
spec:
  runtimeClassName: wasmtime
  containers:
    - name: app
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [panic]
"#,
    )?;
    namespace.until_pod("failing", "to be in CrashLoopBackOff", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            && status["lastState"]["terminated"]["exitCode"] == 134
    })?;
    let described = namespace.must(&["describe", "pod", "failing"])?;
    for part in ["asked to panic", "wasm backtrace", "main.rs:"] {
        assert!(described.contains(part), "no {part} in {described}");
    }
    Ok(())
}

fn a_container_is_started_again_until_it_succeeds(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: patient }
spec:
  runtimeClassName: wasmtime
  restartPolicy: OnFailure
  volumes:
    - { name: shared, emptyDir: {} }
  containers:
    - name: app
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [cat, /shared/file]
      volumeMounts: &mounts [{ name: shared, mountPath: /shared }]
    - name: slow
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      command: [/bin/sh, -c, "sleep 5; echo at last > /shared/file"]
      volumeMounts: *mounts
"#,
    )?;
    namespace.until_phase("patient", "Succeeded")?;
    let app = namespace.container("patient")?;
    assert!(app["restartCount"].as_u64() >= Some(1), "{app}");
    assert_eq!(app["state"]["terminated"]["exitCode"], 0);
    let earlier = &app["lastState"]["terminated"];
    assert_eq!(earlier["exitCode"], 1);
    assert!(earlier["message"].as_str().unwrap_or_default().contains("/shared/file"), "{app}");
    assert_eq!(namespace.must(&["logs", "patient", "--container=app"])?, "at last\n");
    Ok(())
}

fn a_job_fails_with_the_guests_exit_code(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: batch/v1
kind: Job
metadata: { name: job }
spec:
  backoffLimit: 3
  podFailurePolicy:
    rules:
      - { action: FailJob, onExitCodes: { operator: In, values: [42] } }
  template:
    spec:
      runtimeClassName: wasmtime
      restartPolicy: Never
      containers:
        - { name: app, image: "registry.example/samples/hello-c:1", imagePullPolicy: Never, args: ["42"] }
"#,
    )?;
    namespace.must(&["wait", "job/job", "--for=condition=Failed", "--timeout=85s"])?;
    let path =
        "--output=jsonpath={.status.failed} {.status.conditions[?(@.type=='Failed')].message}";
    let status = namespace.must(&["get", "job", "job", path])?;
    // One attempt of the four: this code says that another would be in vain.
    assert!(status.starts_with("1 ") && status.contains("exit code 42"), "{status}");
    Ok(())
}

/// What it makes at the full minute, asked for at once.
fn a_job_of_a_cron_job(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: batch/v1
kind: CronJob
metadata: { name: nightly }
spec:
  schedule: "0 3 * * *"
  jobTemplate:
    spec:
      template:
        spec:
          runtimeClassName: wasmtime
          restartPolicy: OnFailure
          containers:
            - { name: app, image: "registry.example/samples/hello:1", imagePullPolicy: Never, args: [args, by hand] }
"#,
    )?;
    namespace.must(&["create", "job", "now", "--from=cronjob/nightly"])?;
    namespace.must(&["wait", "job/now", "--for=condition=Complete", "--timeout=85s"])?;
    assert_eq!(namespace.must(&["logs", "job/now"])?, "by hand\n");
    Ok(())
}
