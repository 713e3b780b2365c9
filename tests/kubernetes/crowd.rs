//! Many Pods at once.

use anyhow::{Result, ensure};
use serde_json::Value;
use tests::namespace::Namespace;
use tests::processes;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[("a_hundred_pods_come_and_go", a_hundred_pods_come_and_go)];

const PODS: usize = 100;

const CROWD: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: crowd }
spec:
  replicas: 100
  selector: { matchLabels: { app: crowd } }
  template:
    metadata: { labels: { app: crowd } }
    spec:
      runtimeClassName: wasmtime
      containers:
        - name: app
          image: registry.example/samples/hello-http:1
          imagePullPolicy: Never
          env: [{ name: POD, valueFrom: { fieldRef: { fieldPath: metadata.name } } }]
          readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 5 }
"#;

fn a_hundred_pods_come_and_go(namespace: &Namespace<'_>) -> Result<()> {
    let cri = &namespace.cluster.node()?.cri;
    namespace.apply(CROWD)?;
    let all_ready = || namespace.must(&["rollout", "status", "deployment/crowd", "--timeout=85s"]);
    // A loaded machine has the time of two.
    all_ready().or_else(|_| all_ready())?;
    let sandboxes = cri.ready_pods(&namespace.name)?;
    assert_eq!(sandboxes.len(), PODS);

    let pods: Value = serde_json::from_str(&namespace.must(&["get", "pods", "--output=json"])?)?;
    let names = pods["items"].as_array().into_iter().flatten();
    let names: Vec<_> = names.filter_map(|pod| pod["metadata"]["name"].as_str()).collect();
    assert_eq!(names.len(), PODS);
    let proxy = namespace.background(&["proxy", "--port=0"])?;
    for name in names {
        let pods = format!("/api/v1/namespaces/{}/pods", namespace.name);
        let answer = proxy.get(&format!("{pods}/{name}:8080/proxy/env/POD"))?;
        ensure!(answer.status == 200 && answer.body == name, "{name} answers {answer:?}");
    }

    namespace.must(&["delete", "deployment/crowd", "--timeout=85s"])?;
    namespace.until("all Pods to be gone", || {
        Ok(namespace.must(&["get", "pods", "--output=name"])?.is_empty())
    })?;
    let is_theirs = |process: &processes::Process| {
        sandboxes.iter().any(|sandbox| process.command.contains(sandbox.as_str()))
    };
    namespace.until("all shims to be gone", || Ok(!processes::all().iter().any(is_theirs)))?;
    // kubelet looks once a minute what there is to be removed.
    namespace.until("all sandboxes to be gone", || Ok(cri.pods_of(&namespace.name)?.is_empty()))
}
