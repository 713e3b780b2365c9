//! What Create and the bundle say of a container, read once and typed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use engine::{HttpSettings, Remains};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, LinuxResources, Mount, Process, Spec};
use provided::{PREINIT, PREINIT_VALUES};
use sandbox::Members;

/// Annotation by which CRI tells the Pod's sandbox from its containers (containerd, pkg/cri/annotations).
const CONTAINER_TYPE: &str = "io.kubernetes.cri.container-type";
const CONTAINER_TYPE_SANDBOX: &str = "sandbox";

/// Annotation with the id of the Pod's sandbox.
const SANDBOX_ID: &str = "io.kubernetes.cri.sandbox-id";

/// Annotation that asks for a core dump of a guest that traps: a path in the container.
const CORE_DUMP: &str = "wasmtime.shim/coredump";

/// Where kubelet mounts the file of a container's termination message unless it is told otherwise (Kubernetes API,
/// Container.terminationMessagePath).
const TERMINATION_MESSAGE: &str = "/dev/termination-log";

/// A bundle that cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `config.json` is missing, too large or malformed.
    #[error(transparent)]
    Spec(#[from] sandbox::Error),
    /// A part this runtime cannot do without is missing.
    #[error("{path}: {part} is missing (OCI runtime spec)", path = .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// The JSON path of the part.
        part: &'static str,
    },
    /// An annotation with a value that it cannot have.
    #[error("annotation {key}: {value:?}: {expected} is expected")]
    Annotation {
        /// Which.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it can have.
        expected: &'static str,
    },
}

/// A container as its bundle describes it.
pub struct ContainerConfig {
    spec: Spec,
    process: Process,
    rootfs: PathBuf,
    preinit: Option<bool>,
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
        let preinit = preinit(&spec)?;
        Ok(ContainerConfig { process, rootfs, spec, preinit })
    }

    /// The Pod's sandbox: holds its namespaces, runs nothing of its image.
    pub fn is_sandbox(&self) -> bool {
        self.annotation(CONTAINER_TYPE) == Some(CONTAINER_TYPE_SANDBOX)
    }

    /// What groups containers into one shim: the Pod's sandbox id, where there is a Pod.
    pub fn sandbox_id(&self) -> Option<&str> {
        self.annotation(SANDBOX_ID)
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

    /// `mounts`, in the order they are made.
    pub fn mounts(&self) -> &[Mount] {
        self.spec.mounts().as_deref().unwrap_or_default()
    }

    /// `root.readonly`.
    pub fn readonly_rootfs(&self) -> bool {
        self.spec.root().as_ref().and_then(|root| root.readonly()).unwrap_or(false)
    }

    /// Whether its guest is initialised before it is compiled; none where the Pod does not say.
    pub fn preinit(&self) -> Option<bool> {
        self.preinit
    }

    /// Where a guest that fails leaves what.
    ///
    /// # Errors
    /// [`Error::Annotation`] for a core dump at a path that is not absolute.
    pub fn remains(&self) -> Result<Remains, Error> {
        let message = Path::new(TERMINATION_MESSAGE);
        let has_message = self.mounts().iter().any(|mount| mount.destination() == message);
        let core_dump = match self.annotation(CORE_DUMP).map(Path::new) {
            Some(path) if !path.is_absolute() => {
                let value = path.display().to_string();
                let expected = "an absolute path in the container";
                return Err(Error::Annotation { key: CORE_DUMP, value, expected });
            }
            path => path.map(Path::to_owned),
        };
        Ok(Remains { message: has_message.then(|| message.to_owned()), core_dump })
    }

    /// Takes over how HTTP is served: the Pod's annotations, and the processors that its limit of CPU time is worth.
    ///
    /// # Errors
    /// [`engine::Error::Annotation`].
    pub fn serve_http(&self, settings: &mut HttpSettings) -> Result<(), engine::Error> {
        let annotations = self.spec.annotations().iter().flatten();
        for (key, value) in annotations.filter(|(key, _)| HttpSettings::knows(key)) {
            settings.annotate(key, value)?;
        }
        settings.processors = self.processors();
        Ok(())
    }

    /// `linux.resources.cpu`: quota by period, rounded up.
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

    /// Whether the container has a pid namespace to itself, whose processes end with its first one.
    pub fn own_pid_namespace(&self) -> bool {
        let namespaces = self.spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
        namespaces.unwrap_or_default().iter().any(|namespace| {
            namespace.typ() == LinuxNamespaceType::Pid && namespace.path().is_none()
        })
    }

    /// The container's members. `first` is its first process, which waits for Start; `None` if it was killed.
    pub fn members(&self, first: Pid) -> Option<Members> {
        Members::of(first, &self.spec)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        annotation(&self.spec, key)
    }
}

fn annotation<'a>(spec: &'a Spec, key: &str) -> Option<&'a str> {
    let annotations: Option<&HashMap<String, String>> = spec.annotations().as_ref();
    annotations?.get(key).map(String::as_str)
}

fn preinit(spec: &Spec) -> Result<Option<bool>, Error> {
    let Some(value) = annotation(spec, PREINIT) else { return Ok(None) };
    let (key, value, expected) = (PREINIT, value.to_owned(), PREINIT_VALUES);
    value.parse().map(Some).map_err(|_| Error::Annotation { key, value, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<ContainerConfig, Error> {
        let bundle = tempfile::tempdir().expect("temporary folder");
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

    #[test]
    fn what_a_failure_leaves_is_said_by_a_mount_and_an_annotation() {
        let config = |annotation: &str| {
            let text = r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "linux": {},
                "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["/app.wasm"]},
                "mounts": [{"destination": "/dev/termination-log", "type": "bind", "source": "/a"}],
                "annotations": {"wasmtime.shim/coredump": "PATH"}}"#;
            read(&text.replace("PATH", annotation)).expect("parses")
        };
        let remains = config("/dumps").remains().expect("is possible");
        assert_eq!(remains.message.as_deref(), Some(Path::new("/dev/termination-log")));
        assert_eq!(remains.core_dump.as_deref(), Some(Path::new("/dumps")));
        let text = config("dumps").remains().expect_err("is refused").to_string();
        assert!(text.contains("wasmtime.shim/coredump: \"dumps\""), "{text}");
    }

    #[test]
    fn a_server_has_the_pods_annotations_and_the_processors_of_its_limit() {
        let config = |annotation: &str| {
            let text = r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"},
                "linux": {"resources": {"cpu": {"quota": 150000, "period": 100000}}},
                "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["/app.wasm"]},
                "annotations": {"wasmtime.shim/ANNOTATION": "7", "other/http-listen": "x"}}"#;
            read(&text.replace("ANNOTATION", annotation)).expect("parses")
        };
        let mut settings = HttpSettings::default();
        config("http-max-connections").serve_http(&mut settings).expect("taken");
        assert_eq!((settings.connections, settings.processors), (7, Some(2)));
        let refused = config("http-connections").serve_http(&mut settings).expect_err("refused");
        assert!(refused.to_string().contains("http-max-connections"), "{refused}");
    }

    #[test]
    fn whether_a_guest_is_initialised_ahead_is_true_or_false() {
        let config = |annotation: &str| {
            let text = r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}, "linux": {},
                "process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, "args": ["/app.wasm"]},
                "annotations": {"wasmtime.shim/preinit": "VALUE"}}"#;
            read(&text.replace("VALUE", annotation))
        };
        assert_eq!(config("true").expect("parses").preinit(), Some(true));
        assert_eq!(config("false").expect("parses").preinit(), Some(false));
        let text = config("yes").map(drop).expect_err("is refused").to_string();
        assert!(
            text.ends_with("wasmtime.shim/preinit: \"yes\": true or false is expected"),
            "{text}"
        );
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
