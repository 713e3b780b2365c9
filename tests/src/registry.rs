//! A registry of images on loopback, in the place of one that the node's containerd would pull from.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail};

use crate::certificates;
use crate::command;
use crate::node::KUBERNETES;
use crate::wait::{self, SOON};
use crate::{Node, config};

/// The namespace in containerd through which images are pushed: CRI does not see what is in it.
const PUSHED: &str = "pushed";

/// The log's name in the folder.
const LOG: &str = "registry.log";

/// How often another address is tried.
const ATTEMPTS: usize = 5;

/// A registry that runs as long as this value, with its files in a folder that is another's to remove.
#[derive(Debug)]
pub struct Daemon {
    /// Host and port.
    pub address: String,
    folder: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts Debian's `docker-registry`, which lets everybody in.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::listening(folder, "", free_address)
    }

    /// The same, for user `ci` with the password `secret` alone.
    pub fn start_with_password(folder: &Path) -> Result<Self> {
        fs::write(folder.join("htpasswd"), HTPASSWD)?;
        Self::listening(folder, AUTH, free_address)
    }

    /// The same for everybody, with TLS: the folder's `ca.pem` is the authority that its certificate for 127.0.0.1 is by.
    pub fn start_with_tls(folder: &Path) -> Result<Self> {
        certificates::make(folder, "IP:127.0.0.1")?;
        Self::listening(folder, TLS, free_address)
    }

    /// At the first of a few addresses that nobody else has taken before the registry does.
    fn listening(
        folder: &Path,
        more: &str,
        mut address: impl FnMut() -> Result<String>,
    ) -> Result<Self> {
        for _ in 0..ATTEMPTS {
            let mut registry = Self::spawn(folder, more, address()?)?;
            if wait::until(SOON, "the registry", || registry.is_up())? {
                return Ok(registry);
            }
        }
        bail!("docker-registry ended {ATTEMPTS} times: {}", log(folder)?)
    }

    fn spawn(folder: &Path, more: &str, address: String) -> Result<Self> {
        let configuration = folder.join("registry.yml");
        let text = format!("{REGISTRY}{more}").replace("ADDRESS", &address);
        fs::write(&configuration, text.replace("FOLDER", &folder.display().to_string()))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(configuration);
        let child = command::daemon(&mut command, folder, &folder.join(LOG))
            .context("docker-registry is not there; scripts/install-deps.sh installs it")?;
        Ok(Self { address, folder: folder.to_owned(), child })
    }

    /// How many requests it had that begin so, such as `PUT /v2/app/manifests/`.
    pub fn requests(&self, beginning: &str) -> Result<usize> {
        let quoted = format!("\"{beginning}");
        Ok(log(&self.folder)?.lines().filter(|line| line.contains(&quoted)).count())
    }

    /// Lets a node's containerd, which looks at `hosts.toml` at each pull, take it for `host`: `_default` is every one.
    pub fn is_taken_for(&self, node: &Node, host: &str) -> Result<()> {
        let hosts = config::registries(&node.folder).join(host);
        fs::create_dir_all(&hosts)?;
        Ok(fs::write(hosts.join("hosts.toml"), HOSTS.replace("ADDRESS", &self.address))?)
    }

    /// Whether it listens, or has ended; nothing while neither is so. Its log tells: anybody may answer at the address.
    fn is_up(&mut self) -> Result<Option<bool>> {
        if self.child.try_wait()?.is_some() {
            return Ok(Some(false));
        }
        let listening = format!("listening on {}", self.address);
        Ok(log(&self.folder)?.contains(&listening).then_some(true))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // One that has ended by itself is not there to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A registry with its files in a node's folder, from which the node's containerd pulls.
#[derive(Debug)]
pub struct Registry {
    /// Host and port.
    pub address: String,
    _daemon: Daemon,
}

impl Registry {
    /// Starts one, and lets containerd take it for `host`: see [`Daemon::is_taken_for`].
    pub fn start(node: &Node, host: &str) -> Result<Self> {
        Self::taken_for(node, host, Daemon::start(&node.folder)?)
    }

    /// The same, for user `ci` with the password `secret` alone.
    pub fn start_with_password(node: &Node, host: &str) -> Result<Self> {
        Self::taken_for(node, host, Daemon::start_with_password(&node.folder)?)
    }

    fn taken_for(node: &Node, host: &str, daemon: Daemon) -> Result<Self> {
        daemon.is_taken_for(node, host)?;
        Ok(Self { address: daemon.address.clone(), _daemon: daemon })
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
}

/// What the registries in this folder have written.
fn log(folder: &Path) -> Result<String> {
    fs::read_to_string(folder.join(LOG)).context("read the registry's log")
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

/// Goes on where [`REGISTRY`] ends.
const TLS: &str = "  tls:
    certificate: FOLDER/cert.pem
    key: FOLDER/key.pem
";

/// User `ci` with the password `secret`.
const HTPASSWD: &str = "ci:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

const HOSTS: &str = r#"
server = "http://ADDRESS"
[host."http://ADDRESS"]
  capabilities = ["pull", "resolve"]
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_was_taken_meanwhile_is_left_for_another() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let other = TcpListener::bind("127.0.0.1:0")?;
        let taken = other.local_addr()?.to_string();
        let mut addresses = [taken.clone(), taken.clone(), free_address()?].into_iter();
        let next = || addresses.next().context("no more addresses");
        let registry = Daemon::listening(folder.path(), "", next)?;
        assert_ne!(registry.address, taken);
        Ok(())
    }
}
