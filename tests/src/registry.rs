//! A registry of images on loopback, in the place of one that the node's containerd would pull from.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command};

use anyhow::{Context, Result};

use crate::command;
use crate::node::KUBERNETES;
use crate::wait::{self, SOON};
use crate::{Node, config};

/// The namespace in containerd through which images are pushed: CRI does not see what is in it.
const PUSHED: &str = "pushed";

/// A registry that runs as long as this value, with its files in the node's folder.
#[derive(Debug)]
pub struct Registry {
    /// Host and port.
    pub address: String,
    child: Child,
}

impl Registry {
    /// Starts Debian's `docker-registry`, and lets containerd, which looks at `hosts.toml` at each pull, take it for
    /// `host`: `_default` is every one.
    pub fn start(node: &Node, host: &str) -> Result<Self> {
        Self::start_with(node, host, "")
    }

    /// The same, for user `ci` with the password `secret` alone.
    pub fn start_with_password(node: &Node, host: &str) -> Result<Self> {
        fs::write(node.folder.join("htpasswd"), HTPASSWD)?;
        Self::start_with(node, host, AUTH)
    }

    fn start_with(node: &Node, host: &str, auth: &str) -> Result<Self> {
        let folder = &node.folder;
        let address = free_address()?;
        let configuration = folder.join("registry.yml");
        let text = format!("{REGISTRY}{auth}").replace("ADDRESS", &address);
        fs::write(&configuration, text.replace("FOLDER", &folder.display().to_string()))?;
        let hosts = config::registries(folder).join(host);
        fs::create_dir_all(&hosts)?;
        fs::write(hosts.join("hosts.toml"), HOSTS.replace("ADDRESS", &address))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(configuration);
        let child = command::daemon(&mut command, folder, &folder.join("registry.log"))?;
        let registry = Self { address, child };
        wait::until(SOON, "the registry", || Ok(registry.is_up()?.then_some(())))?;
        Ok(registry)
    }

    /// Puts the image of an archive, which has to be called `<address>/<name>` in it, into the registry.
    pub fn push(&self, node: &Node, archive: &Path, name: &str) -> Result<()> {
        let archive = archive.to_str().context("the archive's path is not UTF-8")?;
        let name = format!("{}/{name}", self.address);
        for words in [
            ["images", "import", "--no-unpack", archive],
            ["images", "push", "--plain-http", name.as_str()],
        ] {
            let done = node.ctr.run(PUSHED, &words)?.success();
            done.with_context(|| format!("ctr {}", words.join(" ")))?;
        }
        Ok(())
    }

    /// Pushes a sample image, for Pods to name it as `HOST/pushed/NAME:1`.
    pub fn push_sample(&self, node: &Node, name: &str) -> Result<()> {
        let sample = node.image(name)?;
        let remote = format!("{}/pushed/{name}:1", self.address);
        let words = ["images", "push", "--plain-http", &remote, &sample];
        node.ctr.run(KUBERNETES, &words)?.success().map(drop)
    }

    fn is_up(&self) -> Result<bool> {
        let url = format!("http://{}/v2/", self.address);
        // It is up as well when it asks for a password.
        Ok(command::run("curl", ["--silent", "--noproxy", "*", &url])?.code == 0)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // One that has ended by itself is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody listens on at the moment.
fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

const REGISTRY: &str = r#"
version: 0.1
storage:
  filesystem:
    rootdirectory: FOLDER/registry
http:
  addr: ADDRESS
"#;

const AUTH: &str = "
auth:
  htpasswd:
    realm: tests
    path: FOLDER/htpasswd
";

/// User `ci` with the password `secret`.
const HTPASSWD: &str = "ci:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

const HOSTS: &str = r#"
server = "http://ADDRESS"
[host."http://ADDRESS"]
  capabilities = ["pull", "resolve"]
"#;
