//! Parts of the node that are killed while Pods run on it.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::namespace::Namespace;
use tests::processes;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    ("a_pod_whose_shim_was_killed_is_started_again", a_pod_whose_shim_was_killed_is_started_again),
    ("containerd_is_restarted_under_a_pod", containerd_is_restarted_under_a_pod),
    ("kubelet_is_restarted_under_a_pod", kubelet_is_restarted_under_a_pod),
];

const SERVER: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: server }
spec:
  runtimeClassName: wasmtime
  containers:
    - name: app
      image: registry.example/samples/hello-http:1
      imagePullPolicy: Never
      readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 }
"#;

fn a_pod_whose_shim_was_killed_is_started_again(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(SERVER)?;
    namespace.until_ready("server")?;
    let sandbox = sandbox_of(namespace)?;
    processes::shim_of(&sandbox)?.kill(Signal::SIGKILL)?;
    namespace
        .until("another sandbox", || Ok(sandbox_of(namespace).is_ok_and(|it| it != sandbox)))?;
    // Its status may still be that of the one before.
    namespace.until("it to answer", || {
        let answer = namespace.http_get("server", 8080, "/");
        Ok(answer.is_ok_and(|answer| answer == "hello from wasi:http\n"))
    })
}

fn containerd_is_restarted_under_a_pod(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(SERVER)?;
    namespace.until_ready("server")?;
    let node = namespace.cluster.node()?;
    node.end_containerd(Signal::SIGKILL)?;
    node.start_containerd()?;
    namespace.until_ready("server")?;
    assert_eq!(namespace.http_get("server", 8080, "/")?, "hello from wasi:http\n");
    assert_eq!(namespace.pod("server")?["status"]["containerStatuses"][0]["restartCount"], 0);
    Ok(())
}

fn kubelet_is_restarted_under_a_pod(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(SERVER)?;
    namespace.until_ready("server")?;
    let before = namespace.container("server")?;
    let sandbox = sandbox_of(namespace)?;
    namespace.cluster.restart_kubelet()?;
    // What was Ready stays so in the API server while kubelet is away: a new Pod tells when it is back.
    namespace.apply(&SERVER.replace("name: server", "name: later"))?;
    namespace.until_ready("later")?;
    namespace.until_ready("server")?;
    let after = namespace.container("server")?;
    assert_eq!(after["containerID"], before["containerID"]);
    assert_eq!(after["state"], before["state"]);
    assert_eq!(after["restartCount"], 0);
    assert!(namespace.cluster.node()?.cri.ready_pods(&namespace.name)?.contains(&sandbox));
    assert_eq!(namespace.http_get("server", 8080, "/")?, "hello from wasi:http\n");
    // It looks after both again.
    namespace.must(&["delete", "pods", "--all", "--timeout=60s"]).map(drop)
}

/// The id of the sandbox that containerd runs now for the namespace's one Pod.
fn sandbox_of(namespace: &Namespace<'_>) -> Result<String> {
    let pods = namespace.cluster.node()?.cri.ready_pods(&namespace.name)?;
    pods.into_iter().next().context("no sandbox is Ready")
}
