//! Parts of the node that are killed while Pods run on it.

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::namespace::Namespace;
use tests::processes;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    ("a_pod_whose_shim_was_killed_is_started_again", a_pod_whose_shim_was_killed_is_started_again),
    ("containerd_is_restarted_under_a_pod", containerd_is_restarted_under_a_pod),
    ("kubelet_is_restarted_under_a_pod", kubelet_is_restarted_under_a_pod),
    ("a_pod_is_evicted_from_a_node_without_memory", a_pod_is_evicted_from_a_node_without_memory),
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
    // A Pod that was Ready stays so in the API server while kubelet is away, so a new Pod shows when kubelet is back.
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

fn a_pod_is_evicted_from_a_node_without_memory(namespace: &Namespace<'_>) -> Result<()> {
    // One that asks for nothing would not even be taken back by a kubelet that starts under pressure.
    let requests = "resources: { requests: { memory: 1Mi } }\n      readinessProbe:";
    namespace.apply(&SERVER.replace("readinessProbe:", requests))?;
    namespace.until_ready("server")?;
    let cluster = namespace.cluster;
    // The machine is not ours to fill: the node is said to need nearly all of it for itself.
    let needs = json!({ "evictionHard": { "memory.available": "99%" } });
    let before = cluster.reconfigure_kubelet(&needs)?;
    let evicted = namespace.until_pod("server", "to be evicted", |pod| {
        let conditions = pod["status"]["conditions"].as_array();
        let is_so = |condition: &Value| {
            condition["type"] == "DisruptionTarget"
                && condition["reason"] == "TerminationByKubelet"
                && condition["message"].to_string().contains("low on resource: memory")
        };
        pod["status"]["phase"] == "Succeeded" && conditions.into_iter().flatten().any(is_so)
    });
    cluster.reconfigure_kubelet(&before)?;
    // It succeeded: the server received SIGTERM, finished, and ended with 0.
    evicted?;
    namespace.until("its sandbox to be gone", || Ok(sandbox_of(namespace).is_err()))?;
    // The node takes Pods again.
    namespace.apply(&SERVER.replace("name: server", "name: later"))?;
    namespace.until_ready("later")
}

/// The id of the sandbox that containerd runs now for the namespace's one Pod.
fn sandbox_of(namespace: &Namespace<'_>) -> Result<String> {
    let pods = namespace.cluster.node()?.cri.ready_pods(&namespace.name)?;
    pods.into_iter().next().context("no sandbox is Ready")
}
