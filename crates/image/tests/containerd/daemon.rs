//! A private containerd: everything it keeps is in one temporary folder.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::{Container, CreateContainerRequest};
use containerd_client::tonic::Request;
use containerd_client::{Client, with_namespace};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use prost_types::Any;
use serde_json::json;

pub const NAMESPACE: &str = "image-tests";

/// A containerd that ends with the test, and by itself after a minute.
pub struct Daemon {
    folder: tempfile::TempDir,
    process: Child,
}

impl Daemon {
    /// Starts the containerd in PATH.
    pub fn start() -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.toml");
        fs::write(&config, CONFIG.replace("FOLDER", &folder.path().display().to_string())).unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new("timeout")
            .args(["--kill-after=5", "60", "containerd", "--config"])
            .arg(&config)
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Daemon { folder, process };
        daemon.wait_until_it_answers();
        daemon
    }

    /// Its gRPC socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("c.sock")
    }

    /// Imports an archive, as a node that pulled it would have it: the blobs, for those platforms.
    pub fn import(&self, archive: &[u8], flags: &[&str]) {
        let path = self.folder.path().join("image.tar");
        fs::write(&path, archive).unwrap();
        let flags = [&["image", "import", "--no-unpack"], flags].concat();
        self.succeeds(&[&flags[..], &[path.to_str().unwrap()]].concat());
    }

    /// Where it keeps what it keeps.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    /// Calls `ctr`, which must succeed.
    pub fn succeeds(&self, args: &[&str]) {
        let output = self.ctr(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Has it remove what nothing refers to: the removal of a lease does so and waits for it.
    pub fn collect_garbage(&self) {
        self.succeeds(&["leases", "create", "--id", "l"]);
        self.succeeds(&["leases", "delete", "--sync", "l"]);
    }

    /// Returns when something is being written to its content store.
    pub async fn is_written_to(&self) {
        let folder = self.root().join("io.containerd.content.v1.content/ingest");
        let written = |entry: fs::DirEntry| {
            entry.path().join("data").metadata().is_ok_and(|data| data.len() > 1 << 20)
        };
        while !fs::read_dir(&folder).into_iter().flatten().flatten().any(written) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Makes a record of a container of that image, as CRI does before it calls the shim.
    pub async fn container(&self, id: &str, image: &str) {
        self.container_with(id, image, Default::default()).await;
    }

    /// The same, as CRI notes it: by the digest of the image's config, and, since containerd 2.0, what the Pod's author
    /// wrote. containerd's own record has the name `image`.
    pub async fn cri_container(&self, id: &str, image: &str, config: &str, written: &str) {
        let spec = json!({ "image": config, "user_specified_image": written });
        let metadata = json!({ "ID": id, "ImageRef": config, "Config": { "image": spec } });
        let noted = json!({ "Version": "v1", "Metadata": metadata });
        let type_url = "github.com/containerd/cri/pkg/store/container/Metadata".to_owned();
        let noted = Any { type_url, value: noted.to_string().into_bytes() };
        let key = "io.cri-containerd.container.metadata".to_owned();
        self.container_with(id, image, [(key, noted)].into()).await;
    }

    async fn container_with(&self, id: &str, image: &str, extensions: HashMap<String, Any>) {
        let mut container = Container {
            extensions,
            id: id.into(),
            image: image.into(),
            runtime: Some(Runtime { name: "io.containerd.wasmtime.v1".into(), options: None }),
            spec: Some(Default::default()),
            ..Default::default()
        };
        let spec = container.spec.as_mut().unwrap();
        spec.type_url = "types.containerd.io/opencontainers/runtime-spec/1/Spec".into();
        spec.value = b"{}".to_vec();
        let client = Client::from_path(self.socket()).await.unwrap();
        let request = CreateContainerRequest { container: Some(container) };
        client.containers().create(with_namespace!(request, NAMESPACE)).await.unwrap();
    }

    fn wait_until_it_answers(&self) {
        let start = Instant::now();
        while !self.ctr(&["version"]).status.success() {
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(start.elapsed() < Duration::from_secs(30), "no containerd: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn ctr(&self, args: &[&str]) -> Output {
        let mut command = Command::new("timeout");
        command.args(["20", "ctr", "--namespace", NAMESPACE, "--address"]);
        command.arg(self.socket()).args(args).output().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // timeout(1) passes it on.
        let _ = kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

/// In the form that versions 1 and 2 read. Images are only imported: no CRI, no snapshots.
const CONFIG: &str = r#"
version = 2
root = "FOLDER/root"
state = "FOLDER/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.cri.v1.images",
  "io.containerd.cri.v1.runtime",
  "io.containerd.nri.v1.nri",
]
[grpc]
  address = "FOLDER/c.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "FOLDER/opt"
"#;
