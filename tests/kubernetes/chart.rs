//! The chart: from a node without the shim to a guest that runs, and back.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::cluster::NODE;
use tests::containerd::repository;
use tests::installer::Installer;
use tests::namespace::Namespace;
use tests::node::KUBERNETES;
use tests::wait::{self, EVENTUALLY};

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[(
    "the_chart_brings_the_shim_to_the_node_and_takes_it_away",
    the_chart_brings_the_shim_to_the_node_and_takes_it_away,
)];

/// Kubernetes versions that the chart is for.
const VERSIONS: [&str; 5] = ["1.26.0", "1.29.0", "1.30.0", "1.33.1", "1.36.0"];

const CLASS: &str = "wasmtime-chart";

/// The chart's own object names begin with that of the release.
const RELEASE: &str = "shim";

fn chart() -> String {
    repository().join("charts/wasmtime-shim").display().to_string()
}

/// What differs from a usual node: where containerd is, and how the API server is reached.
fn values(namespace: &Namespace<'_>, installer: &Installer<'_>) -> Result<String> {
    let node = namespace.cluster.node()?;
    let folder = node.folder().display();
    let values = json!({
        "image": { "pullPolicy": "Never" },
        "runtimeClass": { "name": CLASS },
        "containerd": {
            "config": format!("{folder}/config.toml"),
            "socket": node.socket(),
            "program": node.containerd.program,
            "restartCommand": installer.restart_command(),
        },
        "binDir": format!("{folder}/bin"),
        "stateDir": format!("{folder}/installer/state"),
        "apiServer": namespace.cluster.server()?,
        "hostNetwork": true,
        // Not 1: the tests are not the machine's.
        "hostProcess": std::process::id(),
        "uninstallTimeout": 20,
    });
    let file = node.folder().join("values.json");
    fs::write(&file, values.to_string())?;
    Ok(file.display().to_string())
}

fn the_chart_brings_the_shim_to_the_node_and_takes_it_away(
    namespace: &Namespace<'_>,
) -> Result<()> {
    let cluster = namespace.cluster;
    let node = cluster.node()?;
    is_well_formed(namespace)?;
    node.import_archive(KUBERNETES, &repository().join("target/images/node-installer.tar"))?;
    node.until_known("registry.example/wasmtime-shim/node-installer:0.1.0")?;
    wait::until(EVENTUALLY, "the Pods of other stories to be gone", || {
        Ok(node.cri.pods()?.is_empty().then_some(()))
    })?;
    let config = node.folder().join("config.toml");
    let usual = fs::read(&config)?;
    let installer = Installer::new(node)?;
    let before = fs::read(&config)?;
    let told = installer.while_restarting(|| tell(namespace, &installer));
    let after = fs::read(&config)?;
    // Other stories may follow.
    fs::write(&config, usual)?;
    node.end_containerd(nix::sys::signal::Signal::SIGTERM)?;
    node.start_containerd()?;
    told?;
    ensure!(after == before, "the configuration is not as it was");
    for left in ["bin", "installer"] {
        ensure!(!node.folder().join(left).exists(), "{left} is left");
    }
    Ok(())
}

/// It can be rendered for each version of Kubernetes, and the API server takes all objects.
fn is_well_formed(namespace: &Namespace<'_>) -> Result<()> {
    let cluster = namespace.cluster;
    cluster.helm(&["lint", "--strict", &chart()])?.success()?;
    for version in VERSIONS {
        let words = ["template", RELEASE, &chart(), "--kube-version", version];
        let text = cluster.helm(&words)?.success()?.stdout;
        ensure!(text.contains("kind: RuntimeClass"), "{version}: {text}");
    }
    let words = ["template", RELEASE, &chart(), "--kube-version", "1.36.2+k3s1"];
    let text = cluster.helm(&words)?.success()?.stdout;
    ensure!(!text.contains("kind: RuntimeClass"), "k3s has one of its own");
    let words = ["template", RELEASE, &chart(), "--namespace", &namespace.name];
    let settings = ["--set", "settings.WASMTIME_SHIM_COMPILE_TIME=120s"];
    let text = cluster.helm(&[&words[..], &settings].concat())?.success()?.stdout;
    ensure!(text.contains("--env=WASMTIME_SHIM_COMPILE_TIME=$(WASMTIME_SHIM_COMPILE_TIME)"));
    let applied = ["apply", "--dry-run=server", "--validate=strict", "--filename=-"];
    namespace.kubectl_with_input(&applied, &text)?.success()?;
    for wrong in ["replace=often", "colour=green", "settings.PATH=/tmp", "runtimeClass.create=no"] {
        let refused = cluster.helm(&["template", RELEASE, &chart(), "--set", wrong])?;
        ensure!(refused.code != 0, "{wrong} was taken");
    }
    // The plain YAML is what the chart makes.
    let words = ["template", "--no-hooks", "wasmtime-shim", &chart()];
    let for_system = ["--namespace", "kube-system"];
    let made = cluster.helm(&[&words[..], &for_system].concat())?.success()?.stdout;
    let plain = fs::read_to_string(repository().join("manifests/installer.yaml"))?;
    ensure!(
        plain.ends_with(&made),
        "manifests/installer.yaml is not of this chart: make manifests"
    );
    let manifests = repository().join("manifests").display().to_string();
    cluster.must(&["apply", "--dry-run=server", "--kustomize", &manifests]).map(drop)
}

fn tell(namespace: &Namespace<'_>, installer: &Installer<'_>) -> Result<()> {
    let cluster = namespace.cluster;
    let values = values(namespace, installer)?;
    let helm = |words: &[&str]| {
        let words = [words, &["--namespace", &namespace.name]].concat();
        cluster.helm(&words)
    };
    helm(&["install", RELEASE, &chart(), "--values", &values, "--wait", "--timeout=80s"])?
        .success()
        .with_context(|| installer_log(namespace))?;
    let label = "--output=jsonpath={.metadata.labels.wasmtime\\.shim/ready}";
    assert_eq!(cluster.must(&["get", "node", NODE, label])?, "true");
    let class = cluster.must(&["get", "runtimeclass", CLASS, "--output=json"])?;
    ensure!(class.contains("podFixed") && class.contains("wasmtime.shim/ready"), "{class}");

    // Without --logs: a Pod that has succeeded is gone by then.
    let tested = helm(&["test", RELEASE, "--timeout=60s"])?;
    let tested = tested.success().with_context(|| installer_log(namespace))?;
    ensure!(tested.stdout.contains("Succeeded"), "{tested:?}");

    namespace.apply(IN_THE_WAY)?;
    namespace.until_ready("in-the-way")?;
    let refused = helm(&["uninstall", RELEASE, "--wait", "--timeout=60s"])?;
    ensure!(refused.code != 0, "{refused:?}");
    let log = installer_log(namespace);
    ensure!(log.contains("in-the-way; drain the node"), "{log}");
    namespace.http_get("in-the-way", 8080, "/")?;

    namespace.must(&["delete", "pod", "in-the-way"])?;
    helm(&["uninstall", RELEASE, "--wait", "--timeout=80s"])?
        .success()
        .with_context(|| installer_log(namespace))?;
    assert_eq!(cluster.must(&["get", "node", NODE, label])?, "");
    let kinds = "daemonsets,jobs,pods,serviceaccounts,roles,rolebindings,configmaps,clusterroles,\
                 clusterrolebindings,runtimeclasses";
    let ours = format!("--selector=app.kubernetes.io/instance={RELEASE}");
    namespace.until("every object of the release to be gone", || {
        Ok(namespace.must(&["get", kinds, &ours, "--output=name"])?.is_empty())
    })
}

const IN_THE_WAY: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: in-the-way }
spec:
  runtimeClassName: wasmtime-chart
  terminationGracePeriodSeconds: 1
  containers:
    - name: server
      image: registry.example/samples/hello-http:1
      imagePullPolicy: Never
      readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 }
"#;

fn installer_log(namespace: &Namespace<'_>) -> String {
    let ours = format!("--selector=app.kubernetes.io/instance={RELEASE}");
    let log = namespace.kubectl(&["logs", &ours, "--container=install", "--tail=20"]);
    let described = namespace.kubectl(&["get", "events,pods", "--output=yaml"]);
    let text = |output: Result<tests::command::Output>| output.map(|it| it.stdout + &it.stderr);
    format!("{}\n{}", text(log).unwrap_or_default(), text(described).unwrap_or_default())
}
