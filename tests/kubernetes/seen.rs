//! What kubectl shows of a Pod by way of kubelet: its ports, what it uses.

use anyhow::{Context, Result};
use serde_json::Value;
use tests::command;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[("a_port_is_forwarded", a_port_is_forwarded)];

/// Stories that ask kubelet itself, which answers only users of this node.
pub const HERE: &[(&str, Story)] =
    &[("kubelet_counts_what_a_guest_uses", kubelet_counts_what_a_guest_uses)];

fn a_port_is_forwarded(namespace: &Namespace<'_>) -> Result<()> {
    // On the Pod's loopback alone, where nothing but the forwarding reaches it.
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: server }
spec:
  runtimeClassName: wasmtime
  containers:
    - name: app
      image: registry.example/samples/hello-http:1
      imagePullPolicy: Never
      env: [{ name: WASMTIME_HTTP_PROXY_SOCKET_ADDR, value: "127.0.0.1:8081" }]
"#,
    )?;
    namespace.until_ready("server")?;
    let forwarded = namespace.background(&["port-forward", "pod/server", ":8081"])?;
    // Without a probe, Ready does not yet mean that it listens.
    namespace.until("it to listen", || Ok(forwarded.get("/").is_ok()))?;
    for _ in 0..3 {
        let answer = forwarded.get("/")?;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello from wasi:http\n"));
    }
    Ok(())
}

/// What `kubectl top` is made of.
fn kubelet_counts_what_a_guest_uses(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: busy }
spec:
  runtimeClassName: wasmtime
  containers:
    - name: guest
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [spin]
      resources: { limits: { cpu: 100m, memory: 64Mi } }
    - name: linux
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      command: [/bin/sh, -c, "while :; do :; done"]
      resources: { limits: { cpu: 100m, memory: 64Mi } }
"#,
    )?;
    namespace.until_ready("busy")?;
    for container in ["guest", "linux"] {
        let usage = || usage(namespace, container);
        namespace.until(&format!("{container} to be counted"), || {
            Ok(usage()?.is_some_and(|first| first.cpu > 0 && first.memory > 0))
        })?;
        let first = usage()?.context("it was counted before")?;
        namespace.until(&format!("{container} to use more"), || {
            Ok(usage()?.is_some_and(|now| now.cpu > first.cpu + 100_000_000))
        })?;
        let limit = 64 << 20;
        assert!(first.memory < limit, "{container}: {} bytes", first.memory);
    }
    Ok(())
}

struct Usage {
    /// Nanoseconds so far.
    cpu: u64,
    /// Bytes of the working set.
    memory: u64,
}

/// What kubelet says of a container of the namespace's one Pod.
fn usage(namespace: &Namespace<'_>, container: &str) -> Result<Option<Usage>> {
    let port = "--output=jsonpath={.items[0].status.daemonEndpoints.kubeletEndpoint.Port}";
    let port = namespace.must(&["get", "nodes", port])?;
    let curl = "curl --silent --show-error --fail --insecure --noproxy * --max-time 30";
    let summary = command::must(&format!("{curl} https://127.0.0.1:{port}/stats/summary"))?;
    let summary: Value = serde_json::from_str(&summary)?;
    let of_namespace = |pod: &&Value| pod["podRef"]["namespace"] == namespace.name.as_str();
    let pod = summary["pods"].as_array().into_iter().flatten().find(of_namespace);
    let containers = pod.and_then(|pod| pod["containers"].as_array()).into_iter().flatten();
    let found = containers.into_iter().find(|it| it["name"] == container);
    Ok(found.and_then(|it| {
        Some(Usage {
            cpu: it["cpu"]["usageCoreNanoSeconds"].as_u64()?,
            memory: it["memory"]["workingSetBytes"].as_u64()?,
        })
    }))
}
