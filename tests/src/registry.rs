//! A registry of images, on loopback or in a network namespace, from which the node's containerd can pull.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result, bail};

use crate::certificates;
use crate::command;
use crate::network;
use crate::node::KUBERNETES;
use crate::wait::{self, SOON};
use crate::{Node, config};

/// containerd's namespace for pushing images. CRI does not see what is in it.
const PUSHED: &str = "pushed";

/// Name of the log in the directory.
const LOG: &str = "registry.log";

/// Number of addresses that are tried.
const ATTEMPTS: usize = 5;

/// A registry that runs as long as this value. The caller must remove the directory with its files.
#[derive(Debug)]
pub struct Daemon {
    /// Host and port.
    pub address: String,
    folder: PathBuf,
    child: Child,
}

impl Daemon {
    /// Starts Debian's `docker-registry`, which accepts everybody.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::listening(folder, "", free_address)
    }

    /// As [`Daemon::start`], only for the user `ci` with the password `secret`.
    pub fn start_with_password(folder: &Path) -> Result<Self> {
        fs::write(folder.join("htpasswd"), HTPASSWD)?;
        Self::listening(folder, AUTH, free_address)
    }

    /// As [`Daemon::start`], with TLS. `ca.pem` in the directory is the authority that signed its certificate for
    /// 127.0.0.1.
    pub fn start_with_tls(folder: &Path) -> Result<Self> {
        certificates::make(folder, "IP:127.0.0.1")?;
        Self::listening(folder, TLS, free_address)
    }

    /// As [`Daemon::start`], at that address in a network namespace.
    pub fn start_within(folder: &Path, network: &Path, address: &str) -> Result<Self> {
        let (folder, address) = (folder.to_owned(), address.to_owned());
        // A process begins in the network of the thread that starts it.
        network::within(network, move || Self::listening(&folder, "", || Ok(address.clone())))
    }

    /// Listens on the first of a few addresses that no other program takes before the registry does.
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
            .context("docker-registry does not exist; scripts/install-deps.sh installs it")?;
        Ok(Self { address, folder: folder.to_owned(), child })
    }

    /// Returns the number of requests that begin like this, such as `PUT /v2/app/manifests/`.
    pub fn requests(&self, beginning: &str) -> Result<usize> {
        let quoted = format!("\"{beginning}");
        Ok(log(&self.folder)?.lines().filter(|line| line.contains(&quoted)).count())
    }

    /// Makes a node's containerd use this registry for `host`, by a `hosts.toml`, which containerd reads at each pull.
    /// `_default` stands for every host.
    pub fn is_taken_for(&self, node: &Node, host: &str) -> Result<()> {
        let hosts = config::registries(&node.folder).join(host);
        fs::create_dir_all(&hosts)?;
        Ok(fs::write(hosts.join("hosts.toml"), HOSTS.replace("ADDRESS", &self.address))?)
    }

    /// Returns whether it listens (true) or has ended (false), or `None` if neither is known yet. This is read from its
    /// log, because another program may answer at the address.
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
        // A registry that has ended by itself cannot be killed any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A registry with its files in a node's directory, from which the node's containerd pulls.
#[derive(Debug)]
pub struct Registry {
    /// Host and port.
    pub address: String,
    _daemon: Daemon,
}

impl Registry {
    /// Starts a registry that containerd uses for `host` (see [`Daemon::is_taken_for`]).
    pub fn start(node: &Node, host: &str) -> Result<Self> {
        Self::taken_for(node, host, Daemon::start(&node.folder)?)
    }

    /// As [`Registry::start`], only for the user `ci` with the password `secret`.
    pub fn start_with_password(node: &Node, host: &str) -> Result<Self> {
        Self::taken_for(node, host, Daemon::start_with_password(&node.folder)?)
    }

    /// As [`Registry::start`], at that address in a network namespace. The node must have a route there.
    pub fn start_within(node: &Node, host: &str, network: &Path, address: &str) -> Result<Self> {
        Self::taken_for(node, host, Daemon::start_within(&node.folder, network, address)?)
    }

    fn taken_for(node: &Node, host: &str, daemon: Daemon) -> Result<Self> {
        daemon.is_taken_for(node, host)?;
        Ok(Self { address: daemon.address.clone(), _daemon: daemon })
    }

    /// Pushes the image of an archive, in which it must be called `<address>/<name>`.
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

    /// Pushes a sample image. Pods can name it as `HOST/pushed/NAME:1`.
    pub fn push_sample(&self, node: &Node, name: &str) -> Result<()> {
        let sample = node.image(name)?;
        let remote = format!("{}/pushed/{name}:1", self.address);
        let words = ["images", "push", "--plain-http", &remote, &sample];
        node.ctr.run(KUBERNETES, &words)?.success().map(drop)
    }
}

/// Returns what the registries in this directory have logged.
fn log(folder: &Path) -> Result<String> {
    fs::read_to_string(folder.join(LOG)).context("read the registry's log")
}

/// Returns an address on which nothing listens at the moment.
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

/// Continues [`REGISTRY`].
const TLS: &str = "  tls:
    certificate: FOLDER/cert.pem
    key: FOLDER/key.pem
";

/// The user `ci` with the password `secret`.
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
