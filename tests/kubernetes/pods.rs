//! Pods: applied, Ready, answering, gone.

use std::time::{Duration, Instant};

use anyhow::Result;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    ("a_pod_answers_and_ends", a_pod_answers_and_ends),
    ("a_mixed_pod_with_init_and_sidecar", a_mixed_pod_with_init_and_sidecar),
    ("a_deployment_is_scaled_up_and_down", a_deployment_is_scaled_up_and_down),
    ("probes_over_http_and_tcp", probes_over_http_and_tcp),
    ("two_pods_talk", two_pods_talk),
];

fn a_pod_answers_and_ends(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: server }
spec:
  runtimeClassName: wasmtime
  terminationGracePeriodSeconds: 60
  containers:
    - { name: app, image: "registry.example/samples/hello-http:1", imagePullPolicy: Never }
"#,
    )?;
    namespace.until_ready("server")?;
    assert_eq!(namespace.http_get("server", 8080, "/")?, "hello from wasi:http\n");
    namespace.http_get("server", 8080, "/log?text=something")?;
    namespace.until("what was logged", || {
        let logs = namespace.must(&["logs", "server"])?;
        Ok(logs.contains("stdout: something") && logs.contains("stderr: something"))
    })?;
    let start = Instant::now();
    namespace.must(&["delete", "pod", "server"])?;
    assert!(start.elapsed() < Duration::from_secs(30), "deleting took {:?}", start.elapsed());
    Ok(())
}

fn a_mixed_pod_with_init_and_sidecar(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: mixed }
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  volumes:
    - { name: scratch, emptyDir: {} }
  initContainers:
    - name: sidecar
      restartPolicy: Always
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      command: [/bin/sh, -c, "trap 'exit 0' TERM; echo linux; while :; do sleep 0.2; done"]
    - name: prepare
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [write, /scratch/made, by init]
      volumeMounts: [{ name: scratch, mountPath: /scratch }]
  containers:
    - name: app
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [cat, /scratch/made]
      volumeMounts: [{ name: scratch, mountPath: /scratch, readOnly: true }]
"#,
    )?;
    namespace.until_phase("mixed", "Succeeded")?;
    assert_eq!(namespace.must(&["logs", "mixed", "--container=app"])?, "by init\n");
    assert_eq!(namespace.must(&["logs", "mixed", "--container=sidecar"])?, "linux\n");
    Ok(())
}

fn a_deployment_is_scaled_up_and_down(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: app }
spec:
  replicas: 1
  selector: { matchLabels: { app: app } }
  template:
    metadata: { labels: { app: app } }
    spec:
      runtimeClassName: wasmtime
      containers:
        - name: app
          image: registry.example/samples/hello-http:1
          imagePullPolicy: Never
          readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 }
"#,
    )?;
    for replicas in ["1", "30", "0"] {
        namespace.must(&["scale", "deployment/app", "--replicas", replicas])?;
        namespace.must(&["rollout", "status", "deployment/app", "--timeout=85s"])?;
    }
    namespace.until("all Pods to be gone", || {
        Ok(namespace.must(&["get", "pods", "--output=name"])?.is_empty())
    })
}

fn probes_over_http_and_tcp(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: probed }
spec:
  runtimeClassName: wasmtime
  containers:
    - name: app
      image: registry.example/samples/hello-http:1
      imagePullPolicy: Never
      startupProbe: { tcpSocket: { port: 8080 }, periodSeconds: 1 }
      readinessProbe: { httpGet: { port: 8080, path: / }, periodSeconds: 1 }
      livenessProbe: { httpGet: { port: 8080, path: "/file?path=/alive" }, periodSeconds: 1, failureThreshold: 2 }
"#,
    )?;
    // /alive does not exist: the liveness probe fails, and kubelet starts the container again.
    namespace.until_pod("probed", "to be started again", |pod| {
        pod["status"]["containerStatuses"][0]["restartCount"].as_u64() >= Some(1)
    })?;
    let last = &namespace.pod("probed")?["status"]["containerStatuses"][0]["lastState"];
    assert_eq!(last["terminated"]["exitCode"], 0, "it was told to end: {last}");
    // Events come later than the status.
    namespace.until("the probe's failure to be told", || {
        Ok(namespace.events("probed")?.contains("statuscode: 404"))
    })
}

fn two_pods_talk(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: server }
spec:
  runtimeClassName: wasmtime
  containers:
    - name: app
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      command: [/bin/sh, -c, "while :; do echo from the other Pod | nc -l -p 7000; done"]
"#,
    )?;
    namespace.until_ready("server")?;
    let pod = namespace.pod("server")?;
    let address = pod["status"]["podIP"].as_str().unwrap_or_default();
    namespace.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: client }}
spec:
  runtimeClassName: wasmtime
  restartPolicy: OnFailure
  containers:
    - name: app
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [tcp-connect, "{address}:7000"]
"#
    ))?;
    namespace.until_phase("client", "Succeeded")?;
    assert_eq!(namespace.must(&["logs", "client"])?, "from the other Pod\n");
    Ok(())
}
