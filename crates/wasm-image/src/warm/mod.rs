//! `wasm-image warm`: makes the node compile an image before its first container.
//!
//! It asks the node's containerd to create a container of the image, as kubelet would. While the shim creates the
//! container, it compiles the image and keeps the code. The container is never started, and is removed before the
//! command ends. `node` sends the requests to containerd, and `image` reads what they need of the image. No Wasmtime is
//! needed here.
//!
//! If the command is interrupted, it removes what it made. If it is killed, the next `warm` of the same image finds the
//! rest by its name and removes it. When the lease expires, containerd's garbage collection removes what only the lease
//! refers to.

mod image;
mod node;

use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::args::Warm;
use crate::store::blob;
use crate::{limits, location, progress};
use image::Image;
use node::Node;

/// Prefix of the names of the containers of this command. The rest identifies the image.
const PREFIX: &str = "wasm-image-warm";

/// Number of digits of a digest that identify an image.
const DIGITS: usize = 12;

/// The result.
#[derive(Debug, Serialize)]
pub struct Warmed {
    /// Name of the image.
    image: String,
    /// Digest of its manifest.
    digest: String,
    /// Whether it was compiled now. If not, its code existed before. `None` for an image without wasm layers, because
    /// its code is in the shim's own cache.
    compiled: Option<bool>,
    /// Duration in seconds.
    seconds: f64,
}

impl fmt::Display for Warmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.compiled {
            Some(true) => "was compiled, and its code is kept",
            Some(false) => "was compiled before: there was nothing to do",
            None => "is ready: a container of it could be created",
        };
        write!(f, "{} {what} ({:.1} s)", self.image, self.seconds)
    }
}

/// Warms the image that the command line names.
///
/// # Errors
/// [`NotFound`](crate::errors::Error::NotFound) if the node does not have it,
/// [`Unavailable`](crate::errors::Error::Unavailable) if containerd cannot be reached, and the error of creating its
/// container, as it is.
pub async fn run(asked: &Warm) -> Result<Warmed> {
    let name = location::reference(&asked.image)?.whole();
    let address = asked.address.clone().unwrap_or_else(|| socket(Path::new("/")));
    let node = Node::connect(&address, &asked.namespace, asked.snapshotter.clone()).await?;
    let image = Image::of(&node, &name).await?;
    let stem = format!("{PREFIX}-{}-", &blob::digest(name.as_bytes())["sha256:".len()..][..DIGITS]);
    // Two commands for one image would each remove the other's container as a leftover.
    let _alone = alone(&address).await?;
    for left in node.containers(&stem).await? {
        progress::note(&format!("removing {left}, which an earlier run left"));
        node.remove(&left).await?;
    }
    let started = Instant::now();
    let before = image.codes(&node).await?;
    create_and_remove(&node, &image, &id(&stem)).await?;
    let compiled = before.zip(image.codes(&node).await?).map(|(before, after)| before != after);
    let (digest, seconds) = (image.digest, started.elapsed().as_secs_f64());
    Ok(Warmed { image: name, digest, compiled, seconds })
}

/// Paths of containerd's socket in distributions, below the root directory. The first is the usual one.
const SOCKETS: [&str; 4] = [
    "run/containerd/containerd.sock",
    "run/k3s/containerd/containerd.sock",
    "run/k0s/containerd.sock",
    "var/snap/microk8s/common/run/containerd.sock",
];

/// Returns the first socket that exists, or the usual one if there is none.
fn socket(root: &Path) -> PathBuf {
    let there = SOCKETS.iter().map(|path| root.join(path)).find(|path| path.exists());
    there.unwrap_or_else(|| root.join(SOCKETS[0]))
}

/// Creates a container, and removes all of it whether that succeeds or fails.
async fn create_and_remove(node: &Node, image: &Image, id: &str) -> Result<()> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let created = tokio::select! {
        created = timeout(limits::CREATE_TIME, node.create(id, image)) => match created {
            Ok(created) => created,
            Err(_) => bail!("{} was not created within {:?}", image.name, limits::CREATE_TIME),
        },
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("interrupted")),
    };
    let removed = node.remove(id).await.with_context(|| format!("cannot remove {id}"));
    match (created, removed) {
        (Err(error), Err(left)) => {
            progress::note(&format!("{left:#}"));
            Err(error)
        }
        (created, removed) => created.and(removed),
    }
}

/// Returns a new id each time, because containerd may still be busy with what a killed command began.
fn id(stem: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{stem}{}", now.as_millis())
}

/// Waits until no other `warm` works on the node. The lock is held until it is dropped, or its holder is killed.
async fn alone(socket: &Path) -> Result<File> {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let cannot = || format!("cannot lock {}", directory.display());
    let file = File::open(directory).with_context(cannot)?;
    for _ in 0..limits::TURNS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(limits::TURN).await,
            Err(std::fs::TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
    }
    bail!("another `wasm-image warm` is running on this node and does not end")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{SOCKETS, socket};

    #[test]
    fn the_socket_of_each_distribution_is_found_and_a_missing_one_is_the_usual() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(socket(root.path()), root.path().join("run/containerd/containerd.sock"));
        for path in SOCKETS.iter().rev() {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "").unwrap();
            assert_eq!(socket(root.path()), path);
        }
    }
}
