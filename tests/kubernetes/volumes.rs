//! Volumes of kinds that are more than a directory of kubelet's.

use std::fs;

use anyhow::Result;
use tests::namespace::Namespace;

use crate::Story;

pub const STORIES: &[(&str, Story)] = &[("a_volume_in_memory", a_volume_in_memory)];

/// Volumes whose other side is looked at.
pub const HERE: &[(&str, Story)] = &[
    ("a_folder_and_a_file_of_the_host", a_folder_and_a_file_of_the_host),
    ("a_host_path_of_another_kind_is_refused", a_host_path_of_another_kind_is_refused),
];

fn a_volume_in_memory(namespace: &Namespace<'_>) -> Result<()> {
    namespace.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: cached }
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  volumes:
    - { name: cache, emptyDir: { medium: Memory, sizeLimit: 1Mi } }
  initContainers:
    - name: fill
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [write, /cache/file, kept in memory]
      volumeMounts: &mounts [{ name: cache, mountPath: /cache }]
    - name: overflow
      image: registry.example/samples/linux:1
      imagePullPolicy: Never
      command: [/bin/sh, -c, "grep ' /cache ' /proc/mounts; dd if=/dev/zero of=/cache/big bs=1M count=2; rm /cache/big"]
      volumeMounts: *mounts
  containers:
    - name: read
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [cat, /cache/file]
      volumeMounts: *mounts
"#,
    )?;
    namespace.until_phase("cached", "Succeeded")?;
    assert_eq!(namespace.must(&["logs", "cached", "--container=read"])?, "kept in memory\n");
    let linux = namespace.must(&["logs", "cached", "--container=overflow"])?;
    assert!(linux.contains("tmpfs /cache tmpfs"), "{linux}");
    assert!(linux.contains("No space left on device"), "{linux}");
    Ok(())
}

fn a_folder_and_a_file_of_the_host(namespace: &Namespace<'_>) -> Result<()> {
    let folder = namespace.cluster.node()?.volume("host-paths")?;
    fs::write(folder.join("one"), "of the host")?;
    namespace.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: files }}
spec:
  runtimeClassName: wasmtime
  restartPolicy: Never
  volumes:
    - {{ name: folder, hostPath: {{ path: {folder}, type: Directory }} }}
    - {{ name: file, hostPath: {{ path: {folder}/one, type: File }} }}
  initContainers:
    - name: write
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [write, /folder/two, of the guest]
      volumeMounts: [{{ name: folder, mountPath: /folder }}]
    - name: list
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [ls, /folder]
      volumeMounts: [{{ name: folder, mountPath: /folder }}]
  containers:
    - name: read
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      args: [cat, /etc/one]
      volumeMounts: [{{ name: file, mountPath: /etc/one, readOnly: true }}]
"#,
        folder = folder.display()
    ))?;
    namespace.until_phase("files", "Succeeded")?;
    assert_eq!(namespace.must(&["logs", "files", "--container=list"])?, "one\ntwo\n");
    assert_eq!(namespace.must(&["logs", "files", "--container=read"])?, "of the host");
    assert_eq!(fs::read_to_string(folder.join("two"))?, "of the guest\n");
    Ok(())
}

fn a_host_path_of_another_kind_is_refused(namespace: &Namespace<'_>) -> Result<()> {
    let folder = namespace.cluster.node()?.volume("not-a-file")?;
    namespace.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{ name: mistaken }}
spec:
  runtimeClassName: wasmtime
  volumes:
    - {{ name: file, hostPath: {{ path: {}, type: File }} }}
  containers:
    - name: app
      image: registry.example/samples/hello:1
      imagePullPolicy: Never
      volumeMounts: [{{ name: file, mountPath: /file }}]
"#,
        folder.display()
    ))?;
    namespace.until("the reason to be told", || {
        Ok(namespace.events("mistaken")?.contains("hostPath type check failed"))
    })
}
