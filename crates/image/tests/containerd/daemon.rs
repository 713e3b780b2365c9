//! A private containerd, with all its files in one temporary directory.

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

/// A containerd that ends with the test. If the test does not end it, it ends after a minute.
pub struct Daemon {
    directory: tempfile::TempDir,
    process: Child,
}

impl Daemon {
    /// Starts the containerd in PATH.
    pub fn start() -> Daemon {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        fs::write(&config, CONFIG.replace("DIRECTORY", &directory.path().display().to_string()))
            .unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let process = Command::new("timeout")
            .args(["--kill-after=5", "60", "containerd", "--config"])
            .arg(&config)
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let daemon = Daemon { directory, process };
        daemon.wait_until_it_answers();
        daemon
    }

    /// Path of the gRPC socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("c.sock")
    }

    /// Imports the blobs of an archive without unpacking them. `flags` choose the platforms.
    pub fn import(&self, archive: &[u8], flags: &[&str]) {
        let path = self.directory.path().join("image.tar");
        fs::write(&path, archive).unwrap();
        let flags = [&["image", "import", "--no-unpack"], flags].concat();
        self.succeeds(&[&flags[..], &[path.to_str().unwrap()]].concat());
    }

    /// Path of containerd's root directory.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }

    /// Calls `ctr`, and panics if it fails.
    pub fn succeeds(&self, args: &[&str]) {
        let output = self.ctr(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Makes containerd collect garbage. The synchronous removal of a lease starts the collection and waits for it.
    pub fn collect_garbage(&self) {
        self.succeeds(&["leases", "create", "--id", "l"]);
        self.succeeds(&["leases", "delete", "--sync", "l"]);
    }

    /// Waits until more than 1 MiB of a blob has been written to the content store.
    pub async fn wait_until_written_to(&self) {
        let directory = self.root().join("io.containerd.content.v1.content/ingest");
        let written = |entry: fs::DirEntry| {
            entry.path().join("data").metadata().is_ok_and(|data| data.len() > 1 << 20)
        };
        while !fs::read_dir(&directory).into_iter().flatten().flatten().any(written) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Creates the record of a container of this image, as CRI does before it calls the shim.
    pub async fn container(&self, id: &str, image: &str) {
        self.container_with(id, image, Default::default()).await;
    }

    /// Creates the record of a container with CRI's own record. That has the digest of the image's config and, since
    /// containerd 2.0, the name that the Pod's author has written. containerd's own record has the name `image`.
    pub async fn cri_container(&self, id: &str, image: &str, config: &str, written: &str) {
        let spec = json!({ "image": config, "user_specified_image": written });
        let metadata = json!({ "ID": id, "ImageRef": config, "Config": { "image": spec } });
        let record = json!({ "Version": "v1", "Metadata": metadata });
        let type_url = "github.com/containerd/cri/pkg/store/container/Metadata".to_owned();
        let record = Any { type_url, value: record.to_string().into_bytes() };
        let key = "io.cri-containerd.container.metadata".to_owned();
        self.container_with(id, image, [(key, record)].into()).await;
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
            let log = || fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
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
        // timeout(1) passes the signal to containerd.
        let _ = kill(Pid::from_raw(self.process.id() as i32), Signal::SIGTERM);
        let _ = self.process.wait();
    }
}

/// Configuration of containerd, in a form that versions 1 and 2 read. CRI is disabled because images are only imported.
const CONFIG: &str = r#"
version = 2
root = "DIRECTORY/root"
state = "DIRECTORY/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri",
  "io.containerd.cri.v1.images",
  "io.containerd.cri.v1.runtime",
  "io.containerd.nri.v1.nri",
]
[grpc]
  address = "DIRECTORY/c.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "DIRECTORY/opt"
"#;
