//! Finds a container's workload: which file or layers it runs, and whether they are wasm.
//!
//! Read in this order: [`resolve`] here, which orders the steps; `rootfs` (opens a file without leaving the container),
//! `store` (wasm layers, from containerd's content store) and `blob` (a checked copy). The crate `rule`, which the
//! tools for CI use as well, decides what follows from what is found. [`cache`] keeps compiled code.
//!
//! This crate does not parse wasm, because only a confined process may do that. It reads the first bytes of one file of
//! an image and, within limits, its index and manifest.

#![forbid(unsafe_code)]

mod blob;
pub mod cache;
mod errors;
mod head;
mod limits;
mod rootfs;
mod store;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use oci_spec::image::{Descriptor, Digest};
use oci_spec::runtime::Mount;
use provided::{OF_IMAGE, PREFIX, PREINIT};
use rule::{Entry, Entrypoint, Process, Step};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio::try_join;

pub use errors::Error;
pub use rootfs::Root;
use store::{Layers, Patience, Store};

/// A container as the shim knows it when containerd calls Create.
#[derive(Debug)]
pub struct Container<'a> {
    /// containerd's gRPC socket. Without one an image has no wasm layers.
    pub containerd: Option<&'a Path>,
    /// containerd's namespace: `k8s.io`, `default`, `moby`.
    pub namespace: &'a str,
    /// The container's id.
    pub id: &'a str,
    /// Its root file system, mounted; empty for an image of wasm layers alone.
    pub rootfs: &'a Path,
    /// `process.args` of the OCI runtime spec.
    pub args: &'a [String],
    /// `process.cwd`.
    pub cwd: &'a Path,
    /// `process.env`, each `KEY=VALUE`.
    pub env: &'a [String],
    /// `mounts`: the entrypoint may lie on a volume.
    pub mounts: &'a [Mount],
    /// Whether its guest is initialised before it is compiled; none for what the image's label says.
    pub preinit: Option<bool>,
    /// The wasm layers that it was created with ([`Component::image_layers`]), since its image's name may be another's by
    /// now; none before.
    pub layers: &'a [Descriptor],
}

/// What a container runs.
#[derive(Debug)]
pub enum Workload {
    /// A program for the kernel to execute, or for it to say why not.
    Program,
    /// A guest.
    Guest(Component),
}

/// A guest's code and how it is called.
#[derive(Debug)]
pub struct Component {
    source: Source,
    /// The export to call, of `path#export`; never empty.
    pub export: Option<String>,
    /// Whether it is initialised before it is compiled.
    pub preinit: bool,
    /// What the guest sees as its arguments: `process.args` with the first without its `#export`.
    pub args: Vec<String>,
}

/// Where a component's layers are. At least one: the first is the application, the others satisfy its imports.
#[derive(Debug)]
enum Source {
    /// A file in the container, with its name, and its content as it was when it was found.
    File { file: File, name: String, size: u64, digest: Digest },
    /// Layers of the image.
    Content { store: Box<Store>, layers: Vec<Descriptor>, config: Option<Box<Descriptor>> },
}

impl Component {
    /// Files with wasm or its text form, at their start, that nobody can change any more.
    ///
    /// # Errors
    /// [`Error::Content`] for a layer that is not there or not what its digest says; [`Error::Changed`] for a file
    /// that is another by now.
    pub async fn layers(&self) -> Result<Vec<File>, Error> {
        match &self.source {
            Source::File { file, name, size, digest } => {
                let file = file.try_clone().map_err(Error::read(name))?;
                let (copied, size, digest) = (name.clone(), *size, digest.clone());
                let copy = move || blob::copy(&file, &copied, &digest, size).map(|file| vec![file]);
                in_time(name, limits::READ_TIME, copy).await
            }
            Source::Content { store, layers, .. } => {
                let read = timeout(limits::READ_TIME, store.layers(layers)).await;
                read.unwrap_or_else(|_| Err(store.failed("it took too long for the layers")))
            }
        }
    }

    /// The TCP port that the image says its guest listens on (OCI image specification, "config", `ExposedPorts`): of
    /// several the lowest. None where it says nothing, or containerd knows of no image.
    ///
    /// # Errors
    /// [`Error::Containerd`], and [`Error::Content`] for a config that is not one.
    pub async fn exposed_port(&self, container: &Container<'_>) -> Result<Option<u16>, Error> {
        let name = container.args.first().map_or("", String::as_str);
        match &self.source {
            Source::File { .. } => store::exposed_port(container, name, Patience::default()).await,
            Source::Content { config: None, .. } => Ok(None),
            Source::Content { store, config: Some(config), .. } => {
                let asked = timeout(limits::LOOK_UP_TIME, store.exposed_port(config)).await;
                asked.unwrap_or_else(|_| {
                    Err(store.failed("it took too long for the image's config"))
                })
            }
        }
    }

    /// The layers of the image that it is made of; none where it is a file.
    pub fn image_layers(&self) -> &[Descriptor] {
        match &self.source {
            Source::File { .. } => &[],
            Source::Content { layers, .. } => layers,
        }
    }

    /// What the layers are called in errors, in their order.
    pub fn names(&self) -> Vec<String> {
        match &self.source {
            Source::File { name, .. } => vec![name.clone()],
            Source::Content { layers, .. } => layers.iter().map(rule::layer_name).collect(),
        }
    }

    /// The same for what is compiled from the same, in the same way: hexadecimal digits.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        let export = self.export.clone().unwrap_or_default();
        let preinit = self.preinit.then(|| PREINIT.to_owned());
        for part in [export].into_iter().chain(preinit).chain(self.digests()) {
            // With its length, so that no two lists of parts read the same.
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hex::encode(hash.finalize())
    }

    /// What they are.
    fn digests(&self) -> Vec<String> {
        match &self.source {
            Source::File { digest, .. } => vec![digest.to_string()],
            Source::Content { layers, .. } => {
                layers.iter().map(|layer| layer.digest().to_string()).collect()
            }
        }
    }
}

impl<'a> Container<'a> {
    fn process(&self) -> Process<'a> {
        Process { args: self.args, cwd: self.cwd, env: self.env }
    }
}

/// Finds out what the container runs.
///
/// The entrypoint is first looked for in the root file system and on the volumes, as Linux would
/// (execvp(3)), and also in the working directory. containerd is asked for wasm layers only when it
/// is not there. Recognised are the media types `application/wasm` (the CNCF Wasm OCI artifact),
/// `application/wasm+zstd`, `application/vnd.wasm.content.layer.v1+wasm` and
/// `application/vnd.bytecodealliance.wasm.component.layer.v0+wasm`.
///
/// Ends within two minutes, whatever containerd or a volume's server does. Needs a Tokio runtime
/// with I/O and time.
///
/// # Errors
/// See [`Error`]; each names the file, the digest or containerd's socket. A Linux program that is not
/// there is none: that is [`Workload::Program`], and starting it says so.
pub async fn resolve(container: &Container<'_>) -> Result<Workload, Error> {
    let process = container.process();
    let (entrypoint, entry) = find(container).await?;
    match entry.step(&entrypoint)? {
        Step::Guest(file) => return of_file(file, &entrypoint, container).await,
        Step::Program(_) => return Ok(Workload::Program),
        Step::Layers => {}
    }
    let layers = match store::wasm_layers(container, process.name(), Patience::default()).await? {
        Layers::Wasm { store, layers, config, labels } => Ok((store, layers, config, labels)),
        Layers::None(why) => Err(why),
    };
    match rule::of_layers(&process, &entrypoint, layers)? {
        Some((store, layers, config, labels)) => {
            let preinit = preinit(container, &labels)?;
            let source = Source::Content { store, layers, config };
            Ok(guest(source, &entrypoint, container, preinit))
        }
        None => Ok(Workload::Program),
    }
}

/// The same of what is in the container's files alone, its root and its volumes: `None` when no file of that name
/// can be run. It is another guest than the container's own, and not initialised ahead.
///
/// # Errors
/// As [`resolve`].
pub async fn resolve_file(container: &Container<'_>) -> Result<Option<Workload>, Error> {
    let (entrypoint, entry) = find(container).await?;
    Ok(match entry {
        Entry::Guest(file) => {
            let container = Container { preinit: Some(false), ..*container };
            Some(of_file(file, &entrypoint, &container).await?)
        }
        Entry::Program(_) => Some(Workload::Program),
        Entry::Other { .. } | Entry::Nothing => None,
    })
}

/// The annotations of a Pod, as CRI in containerd has them of its sandbox, whose id that is.
///
/// # Errors
/// [`Error::Annotations`].
pub async fn pod_annotations(
    containerd: &Path,
    namespace: &str,
    sandbox: &str,
) -> Result<HashMap<String, String>, Error> {
    store::pod_annotations(containerd, namespace, sandbox, Patience::default()).await
}

/// What the entrypoint means, and what is there. On a thread of its own: a volume's server may be gone, and open(2) and
/// read(2) with it.
async fn find<'a>(container: &Container<'a>) -> Result<(Entrypoint<'a>, Entry<File>), Error> {
    let name = container.process().name();
    let (args, env) = (container.args.to_vec(), container.env.to_vec());
    let (cwd, rootfs) = (container.cwd.to_owned(), container.rootfs.to_owned());
    let mounts = container.mounts.to_vec();
    let search = move || {
        let root = Root::new(rootfs, &mounts)?;
        let process = Process { args: &args, cwd: &cwd, env: &env };
        let head = |file: &File| head::read(file).map_err(Error::read(process.name()));
        let (entrypoint, entry) = rule::find(&process, |path| root.look(path), head)?;
        Ok((entrypoint.path.len() == process.name().len(), entry))
    };
    let (is_whole, entry) = in_time(name, limits::FILE_TIME, search).await?;
    let entrypoint = if is_whole { Entrypoint::whole(name) } else { Entrypoint::parse(name) };
    Ok((entrypoint, entry))
}

/// On a thread of its own, which may hang in a volume: it is waited for no longer than that.
async fn in_time<T: Send + 'static>(
    entrypoint: &str,
    limit: Duration,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match timeout(limit, spawn_blocking(work)).await {
        Ok(Ok(done)) => done,
        Ok(Err(panicked)) => Err(Error::read(entrypoint)(panicked.into())),
        Err(_) => Err(Error::Stuck { entrypoint: entrypoint.to_owned(), limit }),
    }
}

/// A guest of a file, with what it has now.
async fn of_file(
    file: File,
    entrypoint: &Entrypoint<'_>,
    container: &Container<'_>,
) -> Result<Workload, Error> {
    let name = entrypoint.path.to_owned();
    let read = move || {
        let size = file.metadata().map_err(Error::read(&name))?.len();
        // It may have grown since it was recognised.
        rule::within_limit(&name, size)?;
        let digest = blob::digest(&file, size).map_err(Error::read(&name))?;
        Ok(Source::File { file, name, size, digest })
    };
    let read = in_time(entrypoint.path, limits::READ_TIME, read);
    let (source, labels) = try_join!(read, labels(container, entrypoint.path))?;
    let preinit = preinit(container, &labels)?;
    Ok(guest(source, entrypoint, container, preinit))
}

/// The labels that a container has of its image, where they are needed.
async fn labels(
    container: &Container<'_>,
    entrypoint: &str,
) -> Result<HashMap<String, String>, Error> {
    if container.preinit.is_some() {
        return Ok(HashMap::new());
    }
    store::labels(container, entrypoint, Patience::default()).await
}

/// As the Pod says, or else the image: a container has the labels of its image in containerd.
fn preinit(container: &Container<'_>, labels: &HashMap<String, String>) -> Result<bool, Error> {
    let mut ours = labels.keys().filter(|key| key.starts_with(PREFIX));
    ours.try_for_each(|key| OF_IMAGE.check(key))?;
    match (container.preinit, labels.get(PREINIT)) {
        (Some(said), _) => Ok(said),
        (None, None) => Ok(false),
        (None, Some(value)) => Ok(value.parse().map_err(|_| OF_IMAGE.refused(PREINIT, value))?),
    }
}

fn guest(
    source: Source,
    entrypoint: &Entrypoint<'_>,
    container: &Container<'_>,
    preinit: bool,
) -> Workload {
    let mut args = container.args.to_vec();
    if let Some(first) = args.first_mut() {
        *first = entrypoint.path.to_owned();
    }
    let export = entrypoint.export.map(str::to_owned);
    Workload::Guest(Component { source, export, preinit, args })
}
