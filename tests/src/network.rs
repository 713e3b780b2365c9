//! The Pods' network: a bridge of the node's own, on a subnet that nothing else here uses.
//!
//! Nothing is masqueraded or forwarded. So the tests change no rule of iptables and no sysctl, and all traffic stays
//! between the node and its Pods.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, setns};
use serde_json::json;

use crate::{command, config};

/// Runs work on a new thread in that network namespace.
pub fn within<T: Send + 'static>(
    network: &Path,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let network = File::open(network)?;
    let worker = thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET)?;
        work()
    });
    worker.join().map_err(|_| anyhow!("a thread within a network has panicked"))?
}

/// A bridge that exists as long as this value.
#[derive(Debug)]
pub struct Bridge {
    name: String,
    /// Address of the bridge.
    pub address: String,
}

impl Bridge {
    /// Makes the bridge `name`, and writes its CNI configuration into the node's directory.
    pub fn create(name: &str, folder: &Path) -> Result<Self> {
        let (_lock, subnet) = free_subnet()?;
        command::must(&format!("ip link add {name} type bridge"))?;
        let bridge = Self { name: name.to_owned(), address: format!("{subnet}.1") };
        command::must(&format!("ip address add {}/{PREFIX} dev {name}", bridge.address))?;
        command::must(&format!("ip link set {name} up"))?;
        let configuration = config::network_folder(folder);
        fs::create_dir_all(&configuration)?;
        let text = cni(name, &subnet, folder).to_string();
        fs::write(configuration.join("10-bridge.conflist"), text)?;
        Ok(bridge)
    }

    /// Returns the interfaces of Pods that are still attached.
    pub fn ports(&self) -> Vec<String> {
        let Ok(ports) = fs::read_dir(format!("/sys/class/net/{}/brif", self.name)) else {
            return Vec::new();
        };
        ports.flatten().map(|port| port.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if !Path::new("/sys/class/net").join(&self.name).exists() {
            return;
        }
        for interface in self.ports().iter().chain([&self.name]) {
            if let Err(error) = command::must(&format!("ip link delete {interface}")) {
                eprintln!("{error:#}");
            }
        }
    }
}

/// Prefix length of the subnet. It has enough addresses for 1021 Pods, and a bridge has 1024 ports.
const PREFIX: u32 = 22;

/// Number of values of the third byte in such a subnet.
const STEP: usize = 4;

/// Returns the first three bytes of a subnet in 10.177.0.0/16 that no interface here uses. Tests look for one at the same
/// time, so the lock is to be held until the subnet is in use.
pub fn free_subnet() -> Result<(Flock<File>, String)> {
    let lock = Flock::lock(File::open("/tmp")?, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .context("lock /tmp")?;
    let taken = command::must("ip -4 -oneline address show")?;
    let is_free = |third: u8| !taken.contains(&format!(" 10.177.{third}."));
    let free = (0..=255).step_by(STEP).find(|first: &u8| (*first..=first + 3).all(is_free));
    let third = free.context("every subnet of 10.177.0.0/16 is taken")?;
    Ok((lock, format!("10.177.{third}")))
}

fn cni(bridge: &str, subnet: &str, folder: &Path) -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0",
        "name": bridge,
        "plugins": [{
            "type": "bridge",
            "bridge": bridge,
            "isGateway": false,
            "ipMasq": false,
            "ipam": {
                "type": "host-local",
                "dataDir": folder.join("addresses"),
                "ranges": [[{ "subnet": format!("{subnet}.0/{PREFIX}") }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

/// Returns the directory of the CNI plugins.
pub fn plugins() -> Result<PathBuf> {
    ["/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"]
        .map(PathBuf::from)
        .into_iter()
        .find(|folder| folder.join("bridge").exists())
        .ok_or_else(|| anyhow!("no CNI plugins (Debian: containernetworking-plugins)"))
}
