//! The chart, and the same as plain YAML: from a node without the shim to a guest that runs, and back.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests::cluster::{NODE, manifest};
use tests::containerd::repository;
use tests::installer::{HostProcess, Installer};
use tests::namespace::Namespace;
use tests::node::KUBERNETES;
use tests::wait::{self, EVENTUALLY};

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    (
        "the_chart_brings_the_shim_to_the_node_and_takes_it_away",
        the_chart_brings_the_shim_to_the_node_and_takes_it_away,
    ),
    (
        "the_plain_yaml_brings_the_shim_to_the_node_and_takes_it_away",
        the_plain_yaml_brings_the_shim_to_the_node_and_takes_it_away,
    ),
];

const CLASS: &str = "wasmtime-chart";

/// The chart's own object names begin with that of the release.
const RELEASE: &str = "shim";

fn chart() -> String {
    repository().join("charts/wasmtime-shim").display().to_string()
}

/// A node without the shim, and what stands in for its systemd.
struct BareNode<'node> {
    installer: Installer<'node>,
    host: HostProcess,
}

/// Removes the shim from the node, runs a story, and makes sure that the node is then as it was.
fn on_a_bare_node(
    namespace: &Namespace<'_>,
    story: fn(&Namespace<'_>, &BareNode<'_>) -> Result<()>,
) -> Result<()> {
    let node = namespace.cluster.node()?;
    node.import_archive(KUBERNETES, &repository().join("target/images/node-installer.tar"))?;
    let tag = env!("CARGO_PKG_VERSION");
    node.until_known(&format!("registry.example/wasmtime-shim/node-installer:{tag}"))?;
    // Not their sandboxes: what is left of those kubelet removes once a minute.
    wait::until(EVENTUALLY, "the Pods of other stories to be gone", || {
        let pods = namespace.must(&["get", "pods", "--all-namespaces", "--output=name"])?;
        Ok(pods.is_empty().then_some(()))
    })?;
    let config = node.folder().join("config.toml");
    let usual = fs::read(&config)?;
    let bare = BareNode { installer: Installer::new(node)?, host: HostProcess::start(node)? };
    let before = fs::read(&config)?;
    let told = bare.installer.while_restarting(|| story(namespace, &bare));
    let after = fs::read(&config)?;
    // Other stories may follow.
    fs::write(&config, usual)?;
    node.end_containerd(nix::sys::signal::Signal::SIGTERM)?;
    node.start_containerd()?;
    told?;
    ensure!(after == before, "the configuration is not as it was");
    ensure!(!bare.host.has_units()?, "variables are left");
    for left in ["bin", "installer"] {
        ensure!(!node.folder().join(left).exists(), "{left} is left");
    }
    Ok(())
}

/// What differs from a usual node: where containerd is, and how the API server is reached.
fn values(namespace: &Namespace<'_>, bare: &BareNode<'_>) -> Result<String> {
    let node = namespace.cluster.node()?;
    let folder = node.folder().display();
    let values = json!({
        "image": { "pullPolicy": "Never" },
        "runtimeClass": { "name": CLASS },
        "containerd": {
            "config": format!("{folder}/config.toml"),
            "socket": node.socket(),
            "program": node.containerd.program,
            "restartCommand": bare.installer.restart_command(),
        },
        "binDir": format!("{folder}/bin"),
        "stateDir": format!("{folder}/installer/state"),
        "apiServer": namespace.cluster.server()?,
        "hostNetwork": true,
        "hostProcess": bare.host.pid(),
        "uninstallTimeout": 20,
    });
    let file = node.folder().join("values.json");
    fs::write(&file, values.to_string())?;
    Ok(file.display().to_string())
}

fn the_chart_brings_the_shim_to_the_node_and_takes_it_away(
    namespace: &Namespace<'_>,
) -> Result<()> {
    is_well_formed(namespace)?;
    on_a_bare_node(namespace, the_chart)
}

/// The API server takes all objects. `scripts/check-manifests.sh` holds them against the schemas of other releases.
fn is_well_formed(namespace: &Namespace<'_>) -> Result<()> {
    let cluster = namespace.cluster;
    cluster.helm(&["lint", "--strict", &chart()])?.success()?;
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

fn the_chart(namespace: &Namespace<'_>, bare: &BareNode<'_>) -> Result<()> {
    let cluster = namespace.cluster;
    let values = values(namespace, bare)?;
    let helm = |words: &[&str]| {
        let words = [words, &["--namespace", &namespace.name]].concat();
        cluster.helm(&words)
    };
    helm(&["install", RELEASE, &chart(), "--values", &values, "--wait", "--timeout=80s"])?
        .success()
        .with_context(|| installer_log(namespace))?;
    assert_eq!(label(namespace)?, "true");
    let class = cluster.must(&["get", "runtimeclass", CLASS, "--output=json"])?;
    ensure!(class.contains("podFixed") && class.contains("wasmtime.shim/ready"), "{class}");

    // Without --logs: a Pod that has succeeded is gone by then.
    let tested = helm(&["test", RELEASE, "--timeout=60s"])?;
    let tested = tested.success().with_context(|| installer_log(namespace))?;
    ensure!(tested.stdout.contains("Succeeded"), "{tested:?}");

    settings_reach_the_shims(namespace, &|settings| {
        let words = ["upgrade", RELEASE, &chart(), "--values", &values, "--wait", "--timeout=80s"];
        let upgraded = helm(&[&words, settings].concat())?.success();
        upgraded.map(drop).with_context(|| installer_log(namespace))
    })?;

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
    assert_eq!(label(namespace)?, "");
    until_all_is_gone(namespace, RELEASE)
}

/// What the installer says about the node.
fn label(namespace: &Namespace<'_>) -> Result<String> {
    let label = "--output=jsonpath={.metadata.labels.wasmtime\\.shim/ready}";
    namespace.must(&["get", "node", NODE, label])
}

fn until_all_is_gone(namespace: &Namespace<'_>, release: &str) -> Result<()> {
    let kinds = "daemonsets,jobs,pods,serviceaccounts,roles,rolebindings,configmaps,clusterroles,\
                 clusterrolebindings,runtimeclasses";
    let ours = format!("--selector=app.kubernetes.io/instance={release}");
    namespace.until("every object of the installer to be gone", || {
        Ok(namespace.must(&["get", kinds, &ours, "--output=name"])?.is_empty())
    })
}

/// A time to compile in that no guest keeps to, and then the usual one again.
fn settings_reach_the_shims(
    namespace: &Namespace<'_>,
    upgrade: &dyn Fn(&[&str]) -> Result<()>,
) -> Result<()> {
    upgrade(&["--set", "settings.WASMTIME_SHIM_COMPILE_TIME=1ms"])?;
    // The guest may have been compiled by a story before.
    let code = namespace.cluster.node()?.code();
    if code.exists() {
        fs::remove_dir_all(code)?;
    }
    namespace.apply(&to_be_compiled("hurried"))?;
    namespace.until_phase("hurried", "Failed")?;
    let message = namespace.ended("hurried")?["message"].to_string();
    let reason = "cannot be compiled within 1ms; WASMTIME_SHIM_COMPILE_TIME in containerd's";
    ensure!(message.contains(reason), "{message}");
    upgrade(&[])?;
    namespace.apply(&to_be_compiled("unhurried"))?;
    namespace.until_phase("unhurried", "Succeeded")?;
    namespace.must(&["delete", "pods", "hurried", "unhurried"]).map(drop)
}

fn to_be_compiled(name: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  runtimeClassName: {CLASS}
  restartPolicy: Never
  containers:
    - {{ name: guest, image: "registry.example/samples/hello-c:1", imagePullPolicy: Never }}
"#
    )
}

fn the_plain_yaml_brings_the_shim_to_the_node_and_takes_it_away(
    namespace: &Namespace<'_>,
) -> Result<()> {
    let told = on_a_bare_node(namespace, the_plain_yaml);
    // Its RuntimeClass has the name of that of the other stories.
    namespace.cluster.must(&["apply", "--filename", &manifest("runtimeclass.yaml")])?;
    told
}

/// The commands of `manifests/kustomization.yaml`.
fn the_plain_yaml(namespace: &Namespace<'_>, bare: &BareNode<'_>) -> Result<()> {
    let folder = namespace.cluster.node()?.folder().join("plain");
    let system = Namespace { cluster: namespace.cluster, name: "kube-system".into() };
    let flags = flags(namespace, bare)?;
    let overlay = overlay(&folder, &flags)?;
    let rollout = |timeout: &str| {
        system.kubectl(&["rollout", "status", "daemonset", "wasmtime-shim", timeout])
    };
    let log = || {
        let ours = "--selector=app.kubernetes.io/component=installer";
        system.kubectl(&["logs", ours, "--container=install", "--tail=20"])
    };
    system.must(&["apply", "--kustomize", &overlay])?;
    rollout("--timeout=80s")?.success().with_context(|| format!("{:?}", log()))?;
    assert_eq!(label(namespace)?, "true");
    namespace.apply(&fs::read_to_string(manifest("samples/hello-http.yaml"))?)?;
    namespace.until_ready("hello-http")?;

    let patch = fs::read_to_string(manifest("uninstall.yaml"))?;
    let usual = "[uninstall, --host]";
    ensure!(patch.contains(usual), "{patch}");
    let file = folder.join("uninstall.yaml").display().to_string();
    let args = json!([&["uninstall".to_owned()], &flags[..]].concat()).to_string();
    fs::write(&file, patch.replace(usual, &args))?;
    system.must(&["patch", "daemonset", "wasmtime-shim", "--patch-file", &file])?;
    let refused = rollout("--timeout=15s")?;
    ensure!(refused.code != 0, "{refused:?}");
    let said = log()?;
    ensure!(said.stdout.contains("hello-http; drain the node"), "{said:?}");
    namespace.http_get("hello-http", 8080, "/")?;

    namespace.must(&["delete", "pod", "hello-http"])?;
    rollout("--timeout=80s")?.success().with_context(|| format!("{:?}", log()))?;
    assert_eq!(label(namespace)?, "");
    system.must(&["delete", "--kustomize", &overlay])?;
    until_all_is_gone(&system, "wasmtime-shim")
}

/// What the installer has to know of this node.
fn flags(namespace: &Namespace<'_>, bare: &BareNode<'_>) -> Result<Vec<String>> {
    let node = namespace.cluster.node()?;
    let folder = node.folder().display();
    Ok(vec![
        format!("--host={}", bare.host.pid()),
        format!("--config={folder}/config.toml"),
        format!("--socket={}", node.socket().display()),
        format!("--containerd={}", node.containerd.program.display()),
        format!("--restart-command={}", bare.installer.restart_command()),
        format!("--state-dir={folder}/installer/state"),
        format!("--api-server={}", namespace.cluster.server()?),
    ])
}

/// The plain YAML with what is different on this node, as a user would write it.
fn overlay(folder: &Path, flags: &[String]) -> Result<String> {
    let (base, overlay) = (folder.join("manifests"), folder.join("overlay"));
    fs::create_dir_all(&base)?;
    fs::create_dir_all(&overlay)?;
    for name in ["kustomization.yaml", "installer.yaml"] {
        fs::copy(manifest(name), base.join(name))?;
    }
    let bin_dir = format!("--bin-dir={}", folder.with_file_name("bin").display());
    let args = [&["install".to_owned(), bin_dir], flags].concat();
    let pod = json!({
        "hostNetwork": true,
        "initContainers": [{ "name": "install", "imagePullPolicy": "Never", "args": args }],
        "containers": [{ "name": "stay", "imagePullPolicy": "Never" }],
    });
    let patch = json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": "wasmtime-shim", "namespace": "kube-system" },
        "spec": { "template": { "spec": pod } },
    });
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": ["../manifests"],
        "patches": [{ "patch": patch.to_string() }],
    });
    fs::write(overlay.join("kustomization.yaml"), kustomization.to_string())?;
    Ok(overlay.display().to_string())
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
