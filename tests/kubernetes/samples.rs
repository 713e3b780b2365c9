//! `manifests/samples`: each file is applied as it is, and does what its first lines say.

use std::fs;

use anyhow::{Result, ensure};
use tests::cluster::manifest;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    ("sample_hello", hello),
    ("sample_hello_http", hello_http),
    ("sample_autoscaling", autoscaling),
    ("sample_sidecar", sidecar),
    ("sample_init", init),
    ("sample_jobs", jobs),
    ("sample_gateway", gateway),
];

/// That with a volume needs one of this machine.
pub const HERE: &[(&str, Story)] = &[
    ("sample_configuration", configuration),
    ("every_sample_has_a_story", every_sample_has_a_story),
];

fn apply(namespace: &Namespace<'_>, name: &str) -> Result<()> {
    namespace.apply(&fs::read_to_string(manifest(&format!("samples/{name}.yaml")))?)
}

fn every_sample_has_a_story(_: &Namespace<'_>) -> Result<()> {
    for entry in fs::read_dir(manifest("samples"))? {
        let name = entry?.file_name().to_string_lossy().replace('-', "_");
        let story = format!("sample_{}", name.trim_end_matches(".yaml"));
        let mut all = STORIES.iter().chain(HERE);
        ensure!(all.any(|(name, _)| *name == story), "{name} has no story");
    }
    Ok(())
}

fn hello(namespace: &Namespace<'_>) -> Result<()> {
    apply(namespace, "hello")?;
    namespace.until_phase("hello", "Succeeded")?;
    assert_eq!(namespace.must(&["logs", "hello"])?, "hello from wasi\n");
    Ok(())
}

fn hello_http(namespace: &Namespace<'_>) -> Result<()> {
    apply(namespace, "hello-http")?;
    namespace.must(&["wait", "--for=condition=Ready", "pod/hello-http", "--timeout=80s"])?;
    assert_eq!(namespace.http_get("hello-http", 8080, "/")?, "hello from wasi:http\n");
    Ok(())
}

fn autoscaling(namespace: &Namespace<'_>) -> Result<()> {
    apply(namespace, "autoscaling")?;
    // The autoscaler, without metrics, makes the least that it may have.
    namespace.until("two replicas", || {
        let ready = "--output=jsonpath={.status.readyReplicas}";
        Ok(namespace.must(&["get", "deployment", "autoscaled", ready])? == "2")
    })
}

fn sidecar(namespace: &Namespace<'_>) -> Result<()> {
    apply(namespace, "sidecar")?;
    namespace.until_ready("sidecar")?;
    let first = namespace.http_get("sidecar", 8080, "/file?path=/shared/time")?;
    namespace.until("the time to go on", || {
        Ok(namespace.http_get("sidecar", 8080, "/file?path=/shared/time")? != first)
    })
}

fn init(namespace: &Namespace<'_>) -> Result<()> {
    apply(namespace, "init")?;
    namespace.until_phase("init", "Succeeded")?;
    assert_eq!(namespace.must(&["logs", "init", "--container=guest"])?, "written by Linux\n");
    Ok(())
}

fn jobs(namespace: &Namespace<'_>) -> Result<()> {
    apply(namespace, "jobs")?;
    namespace.must(&["wait", "--for=condition=Complete", "job/three-times", "--timeout=80s"])?;
    namespace.must(&["create", "job", "tonight", "--from=cronjob/nightly"])?;
    namespace.must(&["wait", "--for=condition=Complete", "job/tonight", "--timeout=80s"])?;
    assert_eq!(namespace.must(&["logs", "job/tonight"])?, "hello from wasi\n");
    Ok(())
}

fn gateway(namespace: &Namespace<'_>) -> Result<()> {
    apply(namespace, "gateway")?;
    namespace.must(&["rollout", "status", "deployment/gateway", "--timeout=80s"])?;
    namespace.until_ready("backend")?;
    let name =
        ["get", "pods", "--selector=app=gateway", "--output=jsonpath={.items[0].metadata.name}"];
    let gateway = namespace.must(&name)?;
    let pod = namespace.pod("backend")?;
    // There need not be Services.
    let address = pod["status"]["podIP"].as_str().unwrap_or_default();
    let url = format!("http://localhost:8080/fetch?url=http://{address}:8080/");
    let answer = namespace.must(&["exec", &gateway, "--", "wget", "-qO-", &url])?;
    assert_eq!(answer, "200\nhello from wasi:http\n");
    let log = namespace.must(&["logs", &gateway])?;
    ensure!(log.contains("\"target\":\"/fetch?url="), "{log}");
    let metrics = namespace.http_get(&gateway, 9090, "/metrics")?;
    ensure!(metrics.contains("wasmtime_http_requests_total"), "{metrics}");
    Ok(())
}

fn configuration(namespace: &Namespace<'_>) -> Result<()> {
    let folder = namespace.cluster.node()?.volume("claimed")?;
    namespace.apply(&format!(
        "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{ name: sample-configuration }}\nspec:\n  \
         capacity: {{ storage: 10Mi }}\n  accessModes: [ReadWriteOnce]\n  hostPath: {{ path: {} }}\n",
        folder.display()
    ))?;
    apply(namespace, "configuration")?;
    namespace.until_ready("configured")?;
    let get = |path: &str| namespace.http_get("configured", 8080, path);
    assert_eq!(get("/env/GREETING")?.trim_end(), "hello from a ConfigMap");
    assert_eq!(get("/file?path=/etc/password/password")?.trim_end(), "from a Secret");
    assert_eq!(get("/file?path=/data/note")?.trim_end(), "kept");
    assert_eq!(fs::read_to_string(folder.join("note"))?.trim_end(), "kept");
    namespace.must(&["delete", "pod", "configured", "--grace-period=1"])?;
    namespace.must(&["delete", "pvc", "data"])?;
    namespace.must(&["delete", "pv", "sample-configuration"]).map(drop)
}
