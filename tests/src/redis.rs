//! A Redis in a Pod's network.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::network::within;
use crate::wait::{self, SOON};
use crate::{RunningPod, command};

/// The port on which it listens.
pub const PORT: u16 = 6379;

/// The server, which ends when it is dropped.
#[derive(Debug)]
pub struct Redis {
    child: Child,
    network: PathBuf,
}

impl Redis {
    /// Starts it with these options, and waits until it listens on loopback. Without options, its data are in memory.
    pub fn start(pod: &RunningPod<'_>, options: &[&str]) -> Result<Redis> {
        let child = Command::new("nsenter")
            .arg(format!("--net={}", pod.network.display()))
            .args(["redis-server", "--bind", "127.0.0.1", "--save", ""])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("redis-server")?;
        let redis = Redis { child, network: pod.network.clone() };
        wait::until(SOON, "Redis to listen", || {
            let listens = || Ok(TcpStream::connect(("127.0.0.1", PORT)).is_ok());
            Ok(within(&redis.network, listens)?.then_some(()))
        })?;
        Ok(redis)
    }

    /// Starts it with its data in a directory, where each change is before it is acknowledged.
    pub fn start_on_disk(pod: &RunningPod<'_>, data: &Path, options: &[&str]) -> Result<Redis> {
        let data = data.to_str().context("a directory whose name is not UTF-8")?;
        let on_disk = ["--appendonly", "yes", "--appendfsync", "always", "--dir", data];
        Redis::start(pod, &[&on_disk, options].concat())
    }

    /// Returns what Redis' own client prints for a command.
    pub fn cli(&self, words: &[&str]) -> Result<String> {
        let network = format!("--net={}", self.network.display());
        let words = [&[network.as_str(), "redis-cli"], words].concat();
        Ok(command::run(Path::new("nsenter"), words)?.success()?.stdout)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}
