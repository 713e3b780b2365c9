//! What a container is given by its Pod: settings, files, rights.

use anyhow::Result;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[
    ("config_maps_secrets_and_the_downward_api", config_maps_secrets_and_the_downward_api),
    ("a_changed_config_map_is_seen", a_changed_config_map_is_seen),
    ("a_restricted_security_context", a_restricted_security_context),
];

fn config_maps_secrets_and_the_downward_api(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
data: { colour: green }
---
apiVersion: v1
kind: Secret
metadata: { name: key }
stringData: { word: hidden }
---
apiVersion: v1
kind: Pod
metadata: { name: given, labels: { tier: edge } }
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  volumes:
    - { name: settings, configMap: { name: settings } }
    - { name: key, secret: { secretName: key } }
    - name: pod
      downwardAPI: { items: [{ path: labels, fieldRef: { fieldPath: metadata.labels } }] }
  initContainers:
    - name: env
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [env, COLOUR, WORD, POD]
      env:
        - { name: COLOUR, valueFrom: { configMapKeyRef: { name: settings, key: colour } } }
        - { name: WORD, valueFrom: { secretKeyRef: { name: key, key: word } } }
        - { name: POD, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
    - &cat
      name: settings
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [cat, /etc/settings/colour]
      volumeMounts: &mounts
        - { name: settings, mountPath: /etc/settings }
        - { name: key, mountPath: /etc/key }
        - { name: pod, mountPath: /etc/pod }
    - { <<: *cat, name: key, args: [cat, /etc/key/word] }
  containers:
    - { <<: *cat, name: pod, args: [cat, /etc/pod/labels] }
"#,
    )?;
    namespace.until_phase("given", "Succeeded")?;
    let logs = |container: &str| namespace.must(&["logs", "given", "--container", container]);
    assert_eq!(logs("env")?, "green\nhidden\ngiven\n");
    assert_eq!(logs("settings")?, "green");
    assert_eq!(logs("key")?, "hidden");
    assert_eq!(logs("pod")?, "tier=\"edge\"");
    Ok(())
}

fn a_changed_config_map_is_seen(namespace: &Namespace<'_>) -> Result<()> {
    let settings = |colour: &str| {
        namespace.apply(&format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: settings }}\ndata: {{ colour: {colour} }}"
        ))
    };
    settings("green")?;
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: server }
spec:
  runtimeClassName: wasmtime
  volumes: [{ name: settings, configMap: { name: settings } }]
  containers:
    - name: app
      image: registry.example/samples/hello-http:1
      imagePullPolicy: Never
      readinessProbe: { httpGet: { port: 8080 }, periodSeconds: 1 }
      volumeMounts: [{ name: settings, mountPath: /etc/settings }]
"#,
    )?;
    namespace.until_ready("server")?;
    let colour = || namespace.http_get("server", 8080, "/file?path=/etc/settings/colour");
    assert_eq!(colour()?, "green");
    settings("blue")?;
    namespace.until("the change to be seen", || Ok(colour()? == "blue"))
}

fn a_restricted_security_context(namespace: &Namespace<'_>) -> Result<()> {
    namespace.must(&[
        "label",
        "namespace",
        &namespace.name,
        "pod-security.kubernetes.io/enforce=restricted",
    ])?;
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: restricted }
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    runAsGroup: 1000
    fsGroup: 2000
    seccompProfile: { type: RuntimeDefault }
  volumes: [{ name: data, emptyDir: {} }]
  initContainers:
    - &app
      name: allowed
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [write, /data/file, text]
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: { drop: [ALL] }
      volumeMounts: [{ name: data, mountPath: /data }]
  containers:
    - { <<: *app, name: refused, args: [write, /file, text] }
"#,
    )?;
    namespace.until_phase("restricted", "Failed")?;
    assert_eq!(namespace.ended("restricted")?["exitCode"], 1);
    let logs = namespace.must(&["logs", "restricted", "--container=refused"])?;
    assert!(logs.contains("/file: "), "{logs}");
    Ok(())
}
