//! What cannot run: said in the Pod's events, which `kubectl describe` shows.

use anyhow::Result;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    ("an_import_that_is_not_provided_is_named", an_import_that_is_not_provided_is_named),
    (
        "an_unknown_annotation_is_named_with_the_nearest",
        an_unknown_annotation_is_named_with_the_nearest,
    ),
    ("args_are_in_no_event", args_are_in_no_event),
];

/// The policy Never, which is for images that a test has put on its node.
pub const HERE: &[(&str, Story)] =
    &[("an_image_that_is_not_there_is_named", an_image_that_is_not_there_is_named)];

fn an_import_that_is_not_provided_is_named(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&pod("unknown-import:1"))?;
    namespace.until("the reason to be told", || {
        Ok(namespace.events("app")?.contains("acme:db/query@1.0.0"))
    })
}

fn an_unknown_annotation_is_named_with_the_nearest(namespace: &Namespace<'_>) -> Result<()> {
    let annotated = "name: app, annotations: { wasmtime.shim/core-dump: /dumps }";
    namespace.apply(&pod("hello:1").replace("name: app }", &format!("{annotated} }}")))?;
    namespace.until("the reason to be told", || {
        Ok(namespace.events("app")?.contains("wasmtime.shim/coredump"))
    })
}

fn args_are_in_no_event(namespace: &Namespace<'_>) -> Result<()> {
    let args = r#"imagePullPolicy: Never, args: ["--password=hunter2"]"#;
    namespace.apply(&pod("unknown-import:1").replace("imagePullPolicy: Never", args))?;
    namespace.until("the reason to be told", || {
        Ok(namespace.events("app")?.contains("acme:db/query@1.0.0"))
    })?;
    let events = namespace.events("app")?;
    assert!(!events.contains("hunter2"), "{events}");
    Ok(())
}

fn an_image_that_is_not_there_is_named(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(&pod("hello:no-such-tag"))?;
    namespace.until_pod("app", "to lack its image", |pod| {
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["reason"] == "ErrImageNeverPull"
            && waiting["message"].as_str().unwrap_or_default().contains("no-such-tag")
    })
}

fn pod(image: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: app }}
spec:
  runtimeClassName: wasmtime
  containers:
    - {{ name: app, image: "registry.example/samples/{image}", imagePullPolicy: Never }}
"#
    )
}
