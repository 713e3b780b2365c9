//! How containers end, and what Kubernetes makes of it.

use anyhow::Result;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    ("a_job_completes", a_job_completes),
    ("a_trap_is_explained_in_the_pods_status", a_trap_is_explained_in_the_pods_status),
    ("a_failing_container_is_started_again", a_failing_container_is_started_again),
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
      terminationMessagePolicy: FallbackToLogsOnError
"#,
    )?;
    namespace.until_phase("trap", "Failed")?;
    let ended = namespace.ended("trap")?;
    assert_eq!(ended["exitCode"], 134);
    let message = ended["message"].as_str().unwrap_or_default();
    assert!(message.contains("wasm backtrace"), "{ended}");
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
      image: registry.example/samples/hello-c:1
      imagePullPolicy: Never
      args: ["42"]
"#,
    )?;
    namespace.until_pod("failing", "to be in CrashLoopBackOff", |pod| {
        let status = &pod["status"]["containerStatuses"][0];
        status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
            && status["lastState"]["terminated"]["exitCode"] == 42
    })
}
