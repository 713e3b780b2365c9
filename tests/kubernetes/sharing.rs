//! Pods that share more than usual: the node's network, one list of processes.

use anyhow::Result;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    ("a_pod_on_the_nodes_network", a_pod_on_the_nodes_network),
    ("containers_that_share_their_processes", containers_that_share_their_processes),
];

/// The guest listens on the node's own address, which it could not do in a network namespace of its own.
fn a_pod_on_the_nodes_network(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: server }
spec:
  runtimeClassName: wasmtime
  hostNetwork: true
  containers:
    - name: app
      image: registry.example/samples/hello-http:1
      imagePullPolicy: Never
      env:
        - { name: HOST_IP, valueFrom: { fieldRef: { fieldPath: status.hostIP } } }
        - { name: WASMTIME_HTTP_PROXY_SOCKET_ADDR, value: "$(HOST_IP):28080" }
      readinessProbe: { httpGet: { port: 28080 }, periodSeconds: 1 }
"#,
    )?;
    namespace.until_ready("server")?;
    let status = &namespace.pod("server")?["status"];
    let address = status["hostIP"].as_str().unwrap_or_default();
    assert_eq!(status["podIP"], address);
    assert_eq!(namespace.http_get("server", 28080, "/env/HOST_IP")?, address);
    Ok(())
}

/// The sidecar finds the guest among its processes, as root of the same Pod may, and ends it.
fn containers_that_share_their_processes(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: shared }
spec:
  runtimeClassName: wasmtime
  shareProcessNamespace: true
  restartPolicy: Never
  containers:
    - name: app
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [sleep, "1000"]
    - name: sidecar
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      command: [/bin/sh, -c, "until pid=$(pidof wasm); do sleep 0.2; done; cat /proc/1/comm /proc/$pid/comm; kill $pid"]
"#,
    )?;
    namespace.until_phase("shared", "Failed")?;
    assert_eq!(namespace.must(&["logs", "shared", "--container=sidecar"])?, "pause\nwasm\n");
    assert_eq!(namespace.ended("shared")?["exitCode"], 143);
    Ok(())
}
