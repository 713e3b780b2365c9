//! `replicas`: scales up a Deployment, and measures the time until a real kubelet has all its Pods Ready.

use std::time::Instant;

use anyhow::Result;
use tests::cluster::Cluster;
use tests::namespace::Namespace;

use crate::contender::PORT;
use crate::contender::{self, Contender};
use crate::effort::Bench;
use crate::report::{Figure, Reach, Scenario, Section, Table, data};
use crate::statistics::{Times, in_turn};

/// The scenario.
pub const SCENARIO: Scenario =
    Scenario { name: "replicas", title: "A Deployment that is scaled up", measure };

const METHOD: &str = "A Kubernetes of one node runs kubelet, control plane and Pods on the same machine. The time is from \
    `kubectl scale` until all\nPods are Ready, with a readiness probe each second. The Deployments take turns. The first \
    round does not count.";

/// Text of the report if there is no Kubernetes.
const ABSENT: &str =
    "Not measured: there was no Kubernetes on this machine (`make cluster-tools` builds one).";

fn measure(bench: &Bench) -> Result<Section> {
    if !Cluster::is_possible().unwrap_or(false) {
        return Ok(Section::new(&SCENARIO, ABSENT, data([("absent", true)])?));
    }
    let count = bench.effort.scaled;
    let cluster = Cluster::on(bench.node()?)?;
    let times = scale_each(&cluster, bench);
    // Nothing may be left, even if the measurement failed.
    let stopped = cluster.stop();
    let times = times?;
    stopped?;
    let mut table = Table::new(&["who", "Pods", "s", "of the peer's"]);
    for (who, it) in Contender::REAL.iter().zip(&times) {
        let ratio = format!("{:.2}", it.median / times[1].median);
        let seconds = format!("{:.1}", it.median / 1e3);
        table.row([who.name().into(), count.to_string(), seconds, ratio]);
    }
    let work = format!("{count} replicas, scaled to all Ready");
    let figure = |than, other: &Times| {
        Figure::new(&work, than, Reach::AtMost(0.6), times[0].median / other.median)
    };
    let figures = [figure("× peer", &times[1]), figure("× runc", &times[2])];
    let numbers = data(Contender::REAL.iter().map(|who| who.name()).zip(&times))?;
    Ok(Section::new(&SCENARIO, METHOD, numbers).table(table).figures(figures))
}

fn scale_each(cluster: &Cluster, bench: &Bench) -> Result<Vec<Times>> {
    let namespace = cluster.namespace("replicas")?;
    for who in Contender::REAL {
        // This imports the image on the node.
        who.server(cluster.node()?)?;
        namespace.apply(&deployment(who))?;
    }
    in_turn(&Contender::REAL, bench.effort.slow_rounds, |who, round| {
        println!("  round {round}: {}", who.name());
        // The first round only shows that the contenders work.
        scale(&namespace, *who, if round == 0 { 1 } else { bench.effort.scaled })
    })
}

/// Scales up, and back to zero. Returns the milliseconds until all Pods are Ready.
fn scale(namespace: &Namespace<'_>, who: Contender, count: usize) -> Result<f64> {
    let name = format!("deployment/{}", who.handler());
    let to = |count: usize| namespace.must(&["scale", &name, &format!("--replicas={count}")]);
    let is_ready = || namespace.must(&["rollout", "status", &name, "--timeout=85s"]);
    let before = Instant::now();
    to(count)?;
    // A large number of another contender's Pods may need longer than the time limit of one command.
    is_ready().or_else(|_| is_ready())?;
    let time = before.elapsed().as_secs_f64() * 1e3;
    to(0)?;
    // Nothing of one contender may be left while the next one is measured.
    namespace.until("its Pods to be gone", || {
        Ok(namespace.must(&["get", "pods", "--output=name"])?.is_empty())
    })?;
    Ok(time)
}

fn deployment(who: Contender) -> String {
    let handler = who.handler();
    let (image, command) = match who {
        Contender::Runc => {
            ("linux", format!(r#"command: ["/bin/sh", "-c", "{}"]"#, contender::serve()))
        }
        _ => ("hello-http", String::new()),
    };
    format!(
        r#"
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {{ name: {handler} }}
handler: {handler}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: {handler} }}
spec:
  replicas: 0
  selector: {{ matchLabels: {{ app: {handler} }} }}
  template:
    metadata: {{ labels: {{ app: {handler} }} }}
    spec:
      runtimeClassName: {handler}
      terminationGracePeriodSeconds: 1
      containers:
        - name: server
          image: registry.example/samples/{image}:1
          imagePullPolicy: Never
          {command}
          readinessProbe: {{ httpGet: {{ port: {PORT} }}, periodSeconds: 1 }}
"#
    )
}
