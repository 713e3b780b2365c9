//! A Deployment that gets a new version while it is in use.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
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
          lifecycle: { preStop: { sleep: { seconds: 2 } } }
"#;

/// How many clients there are, and how long each pauses between two requests.
const CLIENTS: usize = 2;
const PAUSE: Duration = Duration::from_millis(20);

/// The most that one client sends.
const REQUESTS: usize = 10_000;

/// There need not be a kube-proxy: the API server's own proxy stands in for the Service's address. It sends each
/// request to one of the endpoints that are Ready in the Service's EndpointSlices, as kube-proxy's rules would, only
/// that it learns of a change a little earlier. It does not try another endpoint when one fails.
fn a_rolling_update_under_load_fails_no_request(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(APP)?;
    rolled_out(namespace)?;
    let proxy = namespace.background(&["proxy", "--port=0"])?;
    let path = format!("/api/v1/namespaces/{}/services/app:80/proxy/env/VERSION", namespace.name);
    namespace.until("the Service to answer", || Ok(proxy.get(&path)?.status == 200))?;

    let done = AtomicBool::new(false);
    let (updated, answers) = thread::scope(|scope| {
        let send = || send_until(&done, &proxy, &path);
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(send)).collect();
        let updated = update(namespace);
        done.store(true, Ordering::Relaxed);
        let join = |client: thread::ScopedJoinHandle<'_, _>| client.join().expect("no panic");
        (updated, clients.into_iter().map(join).collect::<Result<Vec<_>>>())
    });
    updated?;
    for answers in answers? {
        assert_eq!(answers.first().map(String::as_str), Some("1"));
        assert_eq!(answers.last().map(String::as_str), Some("2"));
        let versions: BTreeSet<_> = answers.iter().map(String::as_str).collect();
        assert_eq!(versions, ["1", "2"].into());
        assert!(answers.len() > 20, "only {} requests", answers.len());
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

/// Sends one request after the other, and returns the answers or the first failure.
fn send_until(done: &AtomicBool, service: &Background, path: &str) -> Result<Vec<String>> {
    let mut answers = Vec::new();
    while !done.load(Ordering::Relaxed) && answers.len() < REQUESTS {
        let number = answers.len() + 1;
        let answer = service.get(path).with_context(|| format!("request {number}"))?;
        if answer.status != 200 {
            bail!(anyhow!("request {number}: {answer:?}"));
        }
        answers.push(answer.body);
        sleep(PAUSE);
    }
    Ok(answers)
}
