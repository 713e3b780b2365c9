//! Configuration of a container, read once from its bundle and typed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use grants::Requested;
use grants::policy::Subject;
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Mount, Process, Spec};
use plan::{Annotations, FailureArtifacts, HttpSettings, KeyValue};
use provided::SettingError;
use sandbox::Members;

/// Annotation by which CRI distinguishes the Pod's sandbox from its containers (containerd, pkg/cri/annotations).
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
const CONTAINER_TYPE_SANDBOX: &str = "sandbox";

/// Annotation with the id of the Pod's sandbox.
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";

/// Annotations with the Pod's namespace, and with a name of the image. CRI sets them after those of the Pod, so that no Pod
/// can replace them. The name is the one of the Pod since containerd 2.4; before, it may be any name that the same content
/// has on the node.
const POD_NAMESPACE: &str = "io.kubernetes.cri.sandbox-namespace";
const IMAGE_NAME: &str = "io.kubernetes.cri.image-name";

/// Default path at which kubelet mounts the file of a container's termination message (Kubernetes API,
/// Container.terminationMessagePath).
const TERMINATION_MESSAGE: &str = "/dev/termination-log";

/// Error of a bundle that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `config.json` is missing, too large or malformed.
    #[error(transparent)]
    Spec(#[from] sandbox::Error),
    /// A part that this runtime needs is missing.
    #[error("{path}: {part} is missing (OCI runtime spec)", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Name of the part.
        part: &'static str,
    },
    /// An annotation is invalid.
    #[error(transparent)]
    Annotation(#[from] SettingError),
}

/// A container as its bundle describes it.
pub struct ContainerConfig {
    spec: Spec,
    process: Process,
    rootfs: PathBuf,
    annotations: Annotations,
}

impl ContainerConfig {
    /// Reads `<bundle>/config.json`.
    pub fn read(bundle: &Path) -> Result<ContainerConfig, Error> {
        let path = bundle.join("config.json");
        let spec = sandbox::load_spec(&path)?;
        let missing = |part| Error::Missing { path: path.clone(), part };
        let process = spec.process().clone().ok_or_else(|| missing("process"))?;
        let root = spec.root().as_ref().ok_or_else(|| missing("root"))?;
        spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
        let rootfs = bundle.join(root.path());
        let annotations = match spec.annotations() {
            Some(all) => Annotations::parse(all)?,
            None => Annotations::default(),
        };
        Ok(ContainerConfig { process, rootfs, spec, annotations })
    }

    /// Whether it is the Pod's sandbox, which holds the namespaces and runs nothing of its image.
    pub fn is_sandbox(&self) -> bool {
        self.annotation(CONTAINER_TYPE) == Some(CONTAINER_TYPE_SANDBOX)
    }

    /// Whether its root is not used: the built-in pause uses no files, but its hooks may.
    pub fn needs_no_root(&self) -> bool {
        self.is_sandbox() && self.spec.hooks().is_none()
    }

    /// Whether there are hooks to run after Start.
    pub fn has_poststart_hooks(&self) -> bool {
        let hooks = self.spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref());
        hooks.is_some_and(|hooks| !hooks.is_empty())
    }

    /// Id of the Pod's sandbox, if there is a Pod. Containers with the same id have the same shim.
    pub fn sandbox_id(&self) -> Option<&str> {
        self.annotation(SANDBOX_ID)
    }

    /// Id of the Pod's sandbox, if CRI has made the container. Its spec may lack any of the Pod's annotations, because
    /// containerd passes only those on that its configuration names.
    pub fn may_lack_annotations_of(&self) -> Option<&str> {
        let is_of_cri = self.annotation(CONTAINER_TYPE).is_some();
        self.sandbox_id().filter(|_| is_of_cri)
    }

    /// Adds the annotations of the Pod. If its spec has one of the same key, that one counts.
    ///
    /// # Errors
    /// If one cannot be used.
    pub fn annotate(&mut self, mut pod: HashMap<String, String>) -> Result<(), SettingError> {
        if pod.is_empty() {
            return Ok(());
        }
        pod.extend(self.spec.annotations().clone().unwrap_or_default());
        self.annotations = Annotations::parse(&pod)?;
        Ok(())
    }

    /// Absolute path of the root file system.
    pub fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// `process` of the spec.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// `process.args`, empty when there are none.
    pub fn args(&self) -> &[String] {
        self.process.args().as_deref().unwrap_or_default()
    }

    /// `mounts`, in their order.
    pub fn mounts(&self) -> &[Mount] {
        self.spec.mounts().as_deref().unwrap_or_default()
    }

    /// `root.readonly`.
    pub fn readonly_rootfs(&self) -> bool {
        self.spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false)
    }

    /// Whether its guest is initialised before it is compiled; `None` if the Pod does not say.
    pub fn preinit(&self) -> Option<bool> {
        self.annotations.preinit
    }

    /// Paths of the failure artifacts of a guest: termination message and core dump.
    pub fn artifacts(&self) -> FailureArtifacts {
        let message = Path::new(TERMINATION_MESSAGE);
        let has_message = self.mounts().iter().any(|mount| mount.destination() == message);
        let core_dump = self.annotations.core_dump.clone();
        FailureArtifacts { message: has_message.then(|| message.to_owned()), core_dump }
    }

    /// Directory of its guest's configuration, instead of its environment.
    pub fn guest_config(&self) -> Option<&Path> {
        self.annotations.config.as_deref()
    }

    /// Its guest's key-value store, instead of memory.
    pub fn keyvalue(&self) -> Option<&KeyValue> {
        self.annotations.keyvalue.as_ref()
    }

    /// What the Pod names of what its guest may do.
    pub fn requested(&self) -> &Requested {
        &self.annotations.requested
    }

    /// What a rule of the node's file is chosen by.
    pub fn subject(&self) -> Subject<'_> {
        Subject {
            namespace: self.annotation(POD_NAMESPACE).unwrap_or_default(),
            image: self.annotation(IMAGE_NAME).unwrap_or_default(),
        }
    }

    /// Applies the Pod's annotations for HTTP, and the number of processors of its CPU limit.
    ///
    /// # Errors
    /// If an annotation cannot be used.
    pub fn serve_http(&self, settings: &mut HttpSettings) -> Result<(), SettingError> {
        self.annotations.serve_http(settings)?;
        settings.processors = self.processors();
        Ok(())
    }

    /// Number of processors of `linux.resources.cpu`: quota divided by period, rounded up.
    fn processors(&self) -> Option<usize> {
        let cpu = self.resources()?.cpu().as_ref()?;
        let quota = cpu.quota().and_then(|quota| u64::try_from(quota).ok()).filter(|it| *it > 0)?;
        let period = cpu.period().filter(|period| *period > 0)?;
        usize::try_from(quota.div_ceil(period)).ok()
    }

    /// `linux.resources.memory.limit`, in bytes.
    pub fn memory_limit(&self) -> Option<i64> {
        let memory = self.resources()?.memory().as_ref()?;
        memory.limit().filter(|limit| *limit > 0)
    }

    fn resources(&self) -> Option<&LinuxResources> {
        self.spec.linux().as_ref()?.resources().as_ref()
    }

    /// `linux.cgroupsPath`.
    pub fn cgroups_path(&self) -> Option<&Path> {
        self.spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref())
    }

    /// Whether the container has a pid namespace of its own, whose processes end with its first one.
    pub fn own_pid_namespace(&self) -> bool {
        let namespaces = self.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
        namespaces.unwrap_or_default().iter().any(|namespace| {
            namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none()
        })
    }

    /// Members of the container whose first process is `first`, which waits for Start. `None` if that process was killed.
    pub fn members(&self, first: Pid) -> Option<Members> {
        Members::of(first, &self.spec)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        let annotations: Option<&HashMap<String, String>> = self.spec.annotations().as_ref();
        annotations?.get(key).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ContainerConfig, Error> {
        let bundle = tempfile::tempdir().expect("temporary directory");
        std::fs::write(bundle.path().join("config.json"), json).expect("write");
        ContainerConfig::read(bundle.path())
    }

    fn refusal(json: &str) -> String {
        read(json).map(drop).expect_err("is refused").to_string()
    }

    #[test]
    fn a_malformed_config_is_refused_with_its_path_and_place() {
        let text = refusal(r#"{"ociVersion": "1.0.2", "process": 7}"#);
        assert!(text.contains("config.json") && text.contains("line 1"), "{text}");
    }

    #[test]
    fn a_config_without_a_process_is_refused_by_name() {
        let text = refusal(r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}}"#);
        assert!(text.ends_with("process is missing (OCI runtime spec)"), "{text}");
    }

    #[test]
    fn a_missing_config_is_named() {
        let text = ContainerConfig::read(Path::new("/nowhere")).map(drop).expect_err("missing");
        assert!(text.to_string().contains("/nowhere/config.json"), "{text}");
    }

    fn annotated(annotations: &str) -> Result<ContainerConfig, Error> {
        let text = r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"},
            "linux": {"resources": {"cpu": {"quota": 150000, "period": 100000}}},
            "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["/app.wasm"]},
            "mounts": [{"destination": "/dev/termination-log", "type": "bind", "source": "/a"}],
            "annotations": {ANNOTATIONS}}"#;
        read(&text.replace("ANNOTATIONS", annotations))
    }

    #[test]
    fn what_a_failure_leaves_is_said_by_a_mount_and_an_annotation() {
        let config = annotated(r#""wasmtime.shim/coredump": "/dumps""#).expect("parses");
        let artifacts = config.artifacts();
        assert_eq!(artifacts.message.as_deref(), Some(Path::new("/dev/termination-log")));
        assert_eq!(artifacts.core_dump.as_deref(), Some(Path::new("/dumps")));
    }

    #[test]
    fn a_server_has_the_pods_annotations_and_the_processors_of_its_limit() {
        let mut settings = HttpSettings::default();
        let config = annotated(r#""wasmtime.shim/http-access-log": "json""#).expect("parses");
        config.serve_http(&mut settings).expect("taken");
        assert_eq!((settings.has_access_log, settings.processors), (true, Some(2)));
    }

    #[test]
    fn an_annotation_that_cannot_be_used_is_refused_when_the_config_is_read() {
        let refused = annotated(r#""wasmtime.shim/core-dump": "/dumps""#).map(drop);
        let text = refused.expect_err("is refused").to_string();
        assert!(text.contains("did you mean \"wasmtime.shim/coredump\"?"), "{text}");
    }

    #[test]
    fn only_a_container_of_cri_may_lack_annotations_of_its_pod() {
        let cri = r#""io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "p1""#;
        let lacks = |annotations: &str| {
            let config = annotated(annotations).expect("parses");
            config.may_lack_annotations_of().map(str::to_owned)
        };
        assert_eq!(lacks(cri).as_deref(), Some("p1"));
        // Others may be missing all the same.
        assert_eq!(
            lacks(&format!(r#"{cri}, "wasmtime.shim/preinit": "true""#)).as_deref(),
            Some("p1")
        );
        assert_eq!(lacks(r#""io.kubernetes.cri.sandbox-id": "p1""#), None);
        assert_eq!(lacks(""), None);
    }

    #[test]
    fn annotations_of_the_pod_are_added_to_those_of_the_spec() {
        let mut config =
            annotated(r#""wasmtime.shim/http-access-log": "json", "wasmtime.shim/config": "/own""#)
                .expect("parses");
        let pod = [("profile", "restricted"), ("config", "/pods"), ("keyvalue", "/store")];
        let pod = pod.map(|(key, value)| (format!("wasmtime.shim/{key}"), value.to_owned()));
        config.annotate(pod.into()).expect("can be used");
        assert_eq!(config.requested().profile, Some(grants::Profile::Restricted));
        assert_eq!(config.keyvalue(), Some(&KeyValue::File("/store".into())));
        assert_eq!(config.guest_config(), Some(Path::new("/own")));
        let mut settings = HttpSettings::default();
        config.serve_http(&mut settings).expect("taken");
        assert!(settings.has_access_log);
        let wrong = [("wasmtime.shim/profile".to_owned(), "open".to_owned())];
        assert!(config.annotate(wrong.into()).is_err());
    }

    #[test]
    fn the_sandbox_of_a_pod_is_known_by_its_annotation() {
        let config = read(
            r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "linux": {},
                "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["/pause"]},
                "annotations": {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "p1"}}"#,
        )
        .expect("parses");
        assert!(config.is_sandbox());
        assert_eq!(config.sandbox_id(), Some("p1"));
        assert!(!config.own_pid_namespace());
    }
}
