//! A registry on loopback, which the node's containerd takes for `registry.example`.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::Node;
use crate::config;
use crate::node::KUBERNETES;
use crate::wait::{self, SOON};

/// The host in the names of its images.
const HOST: &str = "registry.example";

/// A registry; dropped, it is ended.
#[derive(Debug)]
pub struct Registry<'node> {
    node: &'node Node,
    child: Child,
    address: String,
}

impl<'node> Registry<'node> {
    /// Starts an empty one, and tells containerd, which looks at `hosts.toml` at each pull.
    pub fn start(node: &'node Node) -> Result<Self> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        let folder = node.folder.join("registry");
        fs::create_dir_all(&folder)?;
        let settings = folder.join("config.yml");
        let text = format!(
            "version: 0.1\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\nhttp: {{ addr: {address} }}\n",
            folder.join("images").display()
        );
        fs::write(&settings, text)?;
        let log = File::create(folder.join("log"))?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&settings)
            .current_dir(&folder)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start docker-registry (Debian: docker-registry)")?;
        let registry = Self { node, child, address };
        wait::until(SOON, "the registry to listen", || {
            Ok(std::net::TcpStream::connect(&registry.address).ok())
        })?;
        let hosts = config::registries(&node.folder).join(HOST);
        fs::create_dir_all(&hosts)?;
        let server = format!("server = \"http://{}\"\n", registry.address);
        fs::write(hosts.join("hosts.toml"), server)?;
        Ok(registry)
    }

    /// Pushes a sample image, for Pods to name it as `registry.example/pushed/NAME:1`.
    pub fn push(&self, name: &str) -> Result<()> {
        let sample = self.node.image(name)?;
        let remote = format!("{}/pushed/{name}:1", self.address);
        let words = ["images", "push", "--plain-http", &remote, &sample];
        self.node.ctr.run(KUBERNETES, &words)?.success().map(drop)
    }
}

impl Drop for Registry<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
