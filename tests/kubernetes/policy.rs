//! `manifests/policy`: what the Pods of a namespace may ask for their guests. The API server is asked without making
//! anything, so that no node has a part in it.

use anyhow::{Context, Result};
use tests::cluster::manifest;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[(
    "a_namespace_decides_what_its_pods_may_ask_for_their_guests",
    a_namespace_decides_what_its_pods_may_ask_for_their_guests,
)];

/// A label of the namespace, annotations of a Pod in it, and the reason for which the Pod is refused.
type Case = (&'static str, &'static [(&'static str, &'static str)], Option<&'static str>);

const CASES: &[Case] = &[
    (
        "restricted",
        &[
            ("profile", "restricted"),
            ("allow-connect", "postgres:5432,redis:6379"),
            ("allow-http", ""),
            ("allow-listen", ""),
            ("files", ""),
        ],
        None,
    ),
    (
        "restricted",
        &[("profile", "restricted"), ("allow-connect", ""), ("allow-http", ""), ("files", "")],
        Some("annotation wasmtime.shim/allow-listen is missing"),
    ),
    ("baseline", &[("allow-connect", "10.0.0.0/8:*")], None),
    ("privileged", &[("profile", "privileged")], None),
    (
        "restricted",
        &[],
        Some(r#"annotation wasmtime.shim/profile: "baseline" (by default) is more than namespace"#),
    ),
    (
        "baseline",
        &[("profile", "privileged")],
        Some(r#"wasmtime.shim/profile: "privileged" is more than namespace"#),
    ),
    ("privileged", &[("profile", "Restricted")], Some(r#"allowed is at most "privileged""#)),
    (
        "restricted",
        &[
            ("profile", "restricted"),
            ("allow-connect", "redis:6379, redis:22"),
            ("allow-http", ""),
            ("allow-listen", ""),
            ("files", ""),
        ],
        Some(
            r#"annotation wasmtime.shim/allow-connect: "redis:6379, redis:22" is more than namespace"#,
        ),
    ),
    (
        "restricted",
        &[
            ("profile", "restricted"),
            ("allow-connect", ""),
            ("allow-http", ""),
            ("allow-listen", ""),
            ("files", "/data=rw"),
        ],
        Some(r#"annotation wasmtime.shim/files: "/data=rw" is more than namespace"#),
    ),
    (
        "restricted",
        &[
            ("profile", "restricted"),
            ("allow-connect", ""),
            ("allow-http", ""),
            ("allow-listen", ""),
            ("files", ""),
            ("keyvalue", "redis://redis/1"),
        ],
        None,
    ),
    (
        "restricted",
        &[
            ("profile", "restricted"),
            ("allow-connect", "redis:6379"),
            ("allow-http", ""),
            ("allow-listen", ""),
            ("files", ""),
            ("keyvalue", "redis://redis/2"),
        ],
        Some("annotation wasmtime.shim/keyvalue: its URL is more than namespace"),
    ),
    (
        "restricted",
        &[
            ("profile", "restricted"),
            ("allow-connect", ""),
            ("allow-http", ""),
            ("allow-listen", ""),
            ("files", ""),
            ("keyvalue", "/data/store"),
        ],
        None,
    ),
    ("strict", &[("profile", "restricted")], Some("allowed is restricted, baseline or privileged")),
];

fn a_namespace_decides_what_its_pods_may_ask_for_their_guests(
    namespace: &Namespace<'_>,
) -> Result<()> {
    namespace.must(&["apply", "-f", &manifest("policy/namespaces.yaml")])?;
    let tried = tried(namespace);
    namespace.must(&["delete", "-f", &manifest("policy/namespaces.yaml")])?;
    tried
}

fn tried(namespace: &Namespace<'_>) -> Result<()> {
    let name = namespace.name.as_str();
    let allowed = "wasmtime.shim/allow-connect=redis:6379, postgres:5432";
    let stores = "wasmtime.shim/keyvalue=redis://redis/0, redis://redis/1";
    namespace.must(&["annotate", "namespace", name, allowed, stores])?;
    let label = |profile: &str| {
        let label = format!("wasmtime.shim/profile={profile}");
        namespace.must(&["label", "--overwrite", "namespace", name, &label])
    };
    label("restricted")?;
    // The API server needs a moment to compile a policy and to see a label.
    namespace
        .until("the policy to count", || Ok(refused(namespace, &[], "wasmtime")?.is_some()))?;
    for (profile, annotations, expected) in CASES {
        label(profile)?;
        let is_so = || {
            let refused = refused(namespace, annotations, "wasmtime")?;
            Ok(match expected {
                None => refused.is_none(),
                Some(reason) => refused.is_some_and(|it| it.contains(reason)),
            })
        };
        let seen = namespace.until("the answer", is_so);
        seen.with_context(|| format!("{profile} {annotations:?}"))?;
    }
    label("restricted")?;
    let others = refused(namespace, &[("profile", "privileged")], "")?;
    assert_eq!(others, None, "a Pod of another runtime");
    Ok(())
}

/// The reason for which the API server refuses such a Pod.
fn refused(
    namespace: &Namespace<'_>,
    annotations: &[(&str, &str)],
    class: &str,
) -> Result<Option<String>> {
    let annotations: Vec<String> =
        annotations.iter().map(|(key, value)| format!("wasmtime.shim/{key}: {value:?}")).collect();
    let class = if class.is_empty() { "" } else { "runtimeClassName: wasmtime" };
    let pod = format!(
        r"
apiVersion: v1
kind: Pod
metadata: {{ name: asking, annotations: {{ {} }} }}
spec:
  {class}
  containers: [{{ name: app, image: registry.example/app }}]
",
        annotations.join(", ")
    );
    let output = namespace.kubectl_with_input(&["create", "--dry-run=server", "-f", "-"], &pod)?;
    Ok((output.code != 0).then_some(output.stderr))
}
