//! Images from a registry.

use anyhow::Result;
use serde_json::Value;
use tests::namespace::Namespace;
use tests::registry::Registry;

use crate::Story;

pub const STORIES: &[(&str, Story)] =
    &[("images_are_pulled_from_a_registry", images_are_pulled_from_a_registry)];

/// Each kind of image: an ordinary one, wasm layers, an artifact, Linux.
const PULLED: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: pulled }
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  containers:
    - { name: ordinary, image: "registry.example/pushed/hello:1", imagePullPolicy: Always }
    - { name: layer, image: "registry.example/pushed/hello-layer:1", imagePullPolicy: Always }
    - { name: artifact, image: "registry.example/pushed/hello-artifact:1", imagePullPolicy: Always, command: [hello] }
    - { name: linux, image: "registry.example/pushed/linux:1", imagePullPolicy: Always, args: [echo, hello from linux] }
    - { name: no-tag, image: "registry.example/pushed/hello:no-such-tag", imagePullPolicy: Always }
    - { name: no-image, image: "registry.example/pushed/no-such-image:1", imagePullPolicy: Always }
"#;

fn images_are_pulled_from_a_registry(namespace: &Namespace<'_>) -> Result<()> {
    let node = namespace.cluster.node()?;
    let registry = Registry::start(node, "registry.example")?;
    for image in ["hello", "hello-layer", "hello-artifact", "linux"] {
        registry.push_sample(node, image)?;
    }
    namespace.apply(PULLED)?;
    for (container, greeting) in [
        ("ordinary", "hello from wasi\n"),
        ("layer", "hello from wasi\n"),
        ("artifact", "hello from wasi\n"),
        ("linux", "hello from linux\n"),
    ] {
        namespace.until_pod("pulled", &format!("to have run {container}"), |pod| {
            status(pod, container)["state"]["terminated"]["exitCode"] == 0
        })?;
        let logs = namespace.must(&["logs", "pulled", "--container", container])?;
        assert_eq!(logs, greeting, "{container}");
    }
    for (container, image) in
        [("no-tag", "pushed/hello:no-such-tag"), ("no-image", "pushed/no-such-image:1")]
    {
        // First ErrImagePull with the registry's answer, then this, with both.
        namespace.until_pod("pulled", &format!("to give up {container} for a while"), |pod| {
            let waiting = &status(pod, container)["state"]["waiting"];
            let message = waiting["message"].as_str().unwrap_or_default();
            waiting["reason"] == "ImagePullBackOff"
                && message.contains(image)
                && message.contains("not found")
        })?;
    }
    Ok(())
}

fn status(pod: &Value, container: &str) -> Value {
    let statuses = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
    statuses.into_iter().find(|status| status["name"] == container).unwrap_or_default()
}
