//! `wasm-image warm`: has the node compile an image before its first container.
//!
//! The node's containerd is asked to create a container of the image, as kubelet would: the shim compiles and keeps
//! the code while it creates it. It is never started, and gone again when the command ends; `node` is what is asked of
//! containerd, `image` what of the image is needed for that. There is no Wasmtime here.
//!
//! Whoever is interrupted removes what was made. What a killed one left is found by its name and removed by the next
//! for the same image, and what only its lease holds, containerd's garbage collection takes when that has run out.

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
use crate::{limits, place, progress};
use image::Image;
use node::Node;

/// How the containers of this command are called; what follows stands for the image.
const PREFIX: &str = "wasm-image-warm";

/// How many digits of a digest stand for an image.
const DIGITS: usize = 12;

/// What became of it.
#[derive(Debug, Serialize)]
pub struct Warmed {
    /// The image's name.
    image: String,
    /// The digest of its manifest.
    digest: String,
    /// Whether it was compiled now; if not, its code was there. Nothing of an image without wasm layers, whose code is
    /// in the shim's own cache.
    compiled: Option<bool>,
    /// How long it took, in seconds.
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

/// Warms the image that was asked for.
///
/// # Errors
/// [`NotFound`](crate::errors::Error::NotFound) when the node does not have it,
/// [`Unavailable`](crate::errors::Error::Unavailable) when containerd cannot be reached, and that of creating its
/// container, as it is.
pub async fn run(asked: &Warm) -> Result<Warmed> {
    let name = place::reference(&asked.image)?.whole();
    let address = asked.address.clone().unwrap_or_else(|| socket(Path::new("/")));
    let node = Node::connect(&address, &asked.namespace, asked.snapshotter.clone()).await?;
    let image = Image::of(&node, &name).await?;
    let stem = format!("{PREFIX}-{}-", &blob::digest(name.as_bytes())["sha256:".len()..][..DIGITS]);
    // Two of one image would take each other's containers for leftovers.
    let _alone = alone(&address).await?;
    for left in node.containers(&stem).await? {
        progress::note(&format!("removing {left}, which an earlier run has left"));
        node.remove(&left).await?;
    }
    let started = Instant::now();
    let before = image.codes(&node).await?;
    create_and_remove(&node, &image, &id(&stem)).await?;
    let compiled = before.zip(image.codes(&node).await?).map(|(before, after)| before != after);
    let (digest, seconds) = (image.digest, started.elapsed().as_secs_f64());
    Ok(Warmed { image: name, digest, compiled, seconds })
}

/// Where distributions have containerd's socket, below the root directory; the first is the usual one.
const SOCKETS: [&str; 4] = [
    "run/containerd/containerd.sock",
    "run/k3s/containerd/containerd.sock",
    "run/k0s/containerd.sock",
    "var/snap/microk8s/common/run/containerd.sock",
];

/// The socket that there is; the usual one if there is none.
fn socket(root: &Path) -> PathBuf {
    let there = SOCKETS.iter().map(|path| root.join(path)).find(|path| path.exists());
    there.unwrap_or_else(|| root.join(SOCKETS[0]))
}

/// Creates a container, and removes all of it whatever comes of that.
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
    let removed = node.remove(id).await.with_context(|| format!("{id} is left behind"));
    match (created, removed) {
        (Err(error), Err(left)) => {
            progress::note(&format!("{left:#}"));
            Err(error)
        }
        (created, removed) => created.and(removed),
    }
}

/// Another one each time: containerd may still be busy with what a killed one began.
fn id(stem: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{stem}{}", now.as_millis())
}

/// Waits until no other one of these works on the node; holds until it is dropped, or its holder is killed.
async fn alone(socket: &Path) -> Result<File> {
    let folder = socket.parent().unwrap_or(Path::new("/"));
    let cannot = || format!("cannot lock {}", folder.display());
    let file = File::open(folder).with_context(cannot)?;
    for _ in 0..limits::TURNS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) => tokio::time::sleep(limits::TURN).await,
            Err(std::fs::TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
    }
    bail!("another `wasm-image warm` works on this node, and does not end")
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
