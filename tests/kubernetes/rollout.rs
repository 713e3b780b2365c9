//! A Deployment that gets a new version while it is in use.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, ScopedJoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::background::Background;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[(
    "a_rolling_update_under_load_fails_no_request",
    a_rolling_update_under_load_fails_no_request,
)];

const APP: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: app }
spec:
  selector: { app: app }
  ports: [{ port: 80, targetPort: 8080 }]
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: app }
spec:
  replicas: 3
  strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } }
  selector: { matchLabels: { app: app } }
  template:
    metadata: { labels: { app: app } }
    spec:
      runtimeClassName: wasmtime
      containers:
        - name: app
          image: registry.example/samples/hello-http:1
          imagePullPolicy: Never
          env: [{ name: VERSION, value: "1" }]
          readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 }
          lifecycle: { preStop: { sleep: { seconds: 4 } } }
"#;

/// How many clients there are, and how long each pauses between two requests.
const CLIENTS: usize = 2;
const PAUSE: Duration = Duration::from_millis(10);

/// The most that one client sends.
const REQUESTS: usize = 10_000;

/// How late the clients learn which Pods are there. kube-proxy is as late on a node with much to do.
const DELAY: Duration = Duration::from_secs(1);

/// There need not be a kube-proxy. In its place the clients take the Pods that the Service's EndpointSlices call
/// Ready, and as late as kube-proxy may be, take turns at them, and do not try another when one fails. Each request
/// goes to the Pod by way of the API server, which reaches it wherever this is run.
fn a_rolling_update_under_load_fails_no_request(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(APP)?;
    rolled_out(namespace)?;
    let service = Service::of(namespace)?;
    namespace.until("three endpoints to be Ready", || {
        service.refresh()?;
        Ok(service.pods().len() == 3)
    })?;
    let done = AtomicBool::new(false);
    let (updated, answers) = thread::scope(|scope| {
        let refreshing = scope.spawn(|| service.refresh_until(&done));
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(|| service.send_until(&done))).collect();
        let updated = update(namespace);
        done.store(true, Ordering::Relaxed);
        let refreshed = refreshing.join().expect("no panic");
        let join = |client: ScopedJoinHandle<'_, _>| client.join().expect("no panic");
        let answers = clients.into_iter().map(join).collect::<Result<Vec<_>>>();
        (updated.and(refreshed), answers)
    });
    updated?;
    for answers in answers? {
        assert_eq!(answers.first().map(String::as_str), Some("1"));
        assert_eq!(answers.last().map(String::as_str), Some("2"));
        let versions: BTreeSet<_> = answers.iter().map(String::as_str).collect();
        assert_eq!(versions, ["1", "2"].into());
        assert!(answers.len() > 50, "only {} requests", answers.len());
    }
    Ok(())
}

fn update(namespace: &Namespace<'_>) -> Result<()> {
    // Under way with the old version, and with the new one for a while.
    sleep(Duration::from_secs(1));
    namespace.must(&["set", "env", "deployment/app", "VERSION=2"])?;
    rolled_out(namespace)?;
    namespace.until("the old Pods to be gone", || {
        let pods = namespace.must(&["get", "pods", "--selector=app=app", "--output=name"])?;
        Ok(pods.lines().count() == 3)
    })?;
    sleep(Duration::from_secs(1));
    Ok(())
}

fn rolled_out(namespace: &Namespace<'_>) -> Result<()> {
    namespace.must(&["rollout", "status", "deployment/app", "--timeout=85s"]).map(drop)
}

/// The Service as its clients see it.
struct Service {
    proxy: Background,
    namespace: String,
    pods: Mutex<Vec<String>>,
}

impl Service {
    fn of(namespace: &Namespace<'_>) -> Result<Self> {
        let proxy = namespace.background(&["proxy", "--port=0"])?;
        Ok(Self { proxy, namespace: namespace.name.clone(), pods: Mutex::default() })
    }

    fn refresh_until(&self, done: &AtomicBool) -> Result<()> {
        while !done.load(Ordering::Relaxed) {
            self.refresh()?;
            sleep(DELAY);
        }
        Ok(())
    }

    /// Takes the Pods that are Ready now.
    fn refresh(&self) -> Result<()> {
        let slices =
            format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", self.namespace);
        let of_service = "labelSelector=kubernetes.io/service-name=app";
        let answer = self.proxy.get(&format!("{slices}?{of_service}"))?;
        let slices: Value = serde_json::from_str(&answer.body).context("EndpointSlices")?;
        let slices = slices["items"].as_array().into_iter().flatten();
        let endpoints = slices.filter_map(|slice| slice["endpoints"].as_array()).flatten();
        let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let names = ready.filter_map(|endpoint| endpoint["targetRef"]["name"].as_str());
        *self.locked() = names.map(str::to_owned).collect();
        Ok(())
    }

    fn pods(&self) -> Vec<String> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<String>> {
        self.pods.lock().expect("nobody panics while holding the Pods")
    }

    /// Sends one request after the other, and returns the answers or the first failure.
    fn send_until(&self, done: &AtomicBool) -> Result<Vec<String>> {
        let mut answers = Vec::new();
        while !done.load(Ordering::Relaxed) && answers.len() < REQUESTS {
            let number = answers.len();
            let pods = self.pods();
            let pod = pods.get(number % pods.len().max(1)).context("no Pod is Ready")?;
            let path = format!("/api/v1/namespaces/{}/pods/{pod}:8080/proxy", self.namespace);
            let answer = self.proxy.get(&format!("{path}/env/VERSION"))?;
            ensure!(answer.status == 200, "request {number}, to {pod}: {answer:?}");
            answers.push(answer.body);
            sleep(PAUSE);
        }
        Ok(answers)
    }
}
