//! Finds a container's workload: which file or layers it runs, and whether they are wasm.
//!
//! Read in this order: [`resolve`] here, which orders the steps; `rootfs` (opens a file without leaving the container),
//! `store` (wasm layers, from containerd's content store) and `blob` (a checked copy). The crate `rule`, which the
//! tools for CI use as well, decides what to do with what is found. [`cache`] stores compiled code.
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
use store::{Layers, Store, Timeouts};

/// A container, as the shim knows it when containerd calls Create.
#[derive(Debug)]
pub struct Container<'a> {
    /// containerd's gRPC socket. If there is none, no wasm layers are found.
    pub containerd: Option<&'a Path>,
    /// containerd's namespace: `k8s.io`, `default`, `moby`.
    pub namespace: &'a str,
    /// Container id.
    pub id: &'a str,
    /// Mounted root file system. It is empty if the image has only wasm layers.
    pub rootfs: &'a Path,
    /// `process.args` of the OCI runtime spec.
    pub args: &'a [String],
    /// `process.cwd`.
    pub cwd: &'a Path,
    /// `process.env`, each `KEY=VALUE`.
    pub env: &'a [String],
    /// `mounts` of the OCI runtime spec, because the entrypoint may be on a volume.
    pub mounts: &'a [Mount],
    /// Whether to initialise the guest before it is compiled. If `None`, the image's label decides.
    pub preinit: Option<bool>,
    /// Wasm layers that the container was created with ([`Component::image_layers`]). A later process must use these,
    /// because the image's name may refer to another image by now. Empty until the container exists.
    pub layers: &'a [Descriptor],
}

/// What a container runs.
#[derive(Debug)]
pub enum Workload {
    /// A program for the kernel. If it cannot be executed, the kernel's error says why.
    Program,
    /// A guest for Wasmtime.
    Guest(Box<Component>),
}

/// A guest's code and how it is called.
#[derive(Debug)]
pub struct Component {
    source: Source,
    /// Export to call, from `path#export`. Never an empty string.
    pub export: Option<String>,
    /// Whether to initialise the guest before it is compiled.
    pub preinit: bool,
    /// What else decides its code, as text: how it is made, if something is set for that.
    pub variant: Option<String>,
    /// Arguments of the guest: `process.args`, where the first has no `#export`.
    pub args: Vec<String>,
    /// Labels of the image for this runtime. Empty for a guest that is not the container's own.
    pub labels: HashMap<String, String>,
}

/// Location of a component's layers. There is at least one. The first is the application, and the others satisfy its
/// imports.
#[derive(Debug)]
enum Source {
    /// A file in the container. Size and digest are those of the content when the file was found.
    File { file: File, name: String, size: u64, digest: Digest },
    /// Wasm layers of the image.
    Content { store: Box<Store>, layers: Vec<Descriptor>, config: Option<Box<Descriptor>> },
}

impl Component {
    /// Returns sealed copies of the layers, each read from its start. A layer is wasm or its text form.
    ///
    /// # Errors
    /// [`Error::Content`] if a layer does not exist or does not match its digest; [`Error::Changed`] if the file has
    /// changed since it was found.
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
                read.unwrap_or_else(|_| Err(store.failed("it took too long to send the layers")))
            }
        }
    }

    /// Returns the TCP port that the image declares (OCI image specification, "config", `ExposedPorts`). If it declares
    /// several, returns the lowest. Returns `None` if it declares none, or if containerd knows no image.
    ///
    /// # Errors
    /// [`Error::Containerd`], and [`Error::Content`] if the config is invalid.
    pub async fn exposed_port(&self, container: &Container<'_>) -> Result<Option<u16>, Error> {
        let name = container.args.first().map_or("", String::as_str);
        match &self.source {
            Source::File { .. } => store::exposed_port(container, name, Timeouts::default()).await,
            Source::Content { config: None, .. } => Ok(None),
            Source::Content { store, config: Some(config), .. } => {
                let answered = timeout(limits::LOOK_UP_TIME, store.exposed_port(config)).await;
                answered.unwrap_or_else(|_| {
                    Err(store.failed("it took too long to send the image's config"))
                })
            }
        }
    }

    /// Image layers that the component consists of. Empty if the component is a file.
    pub fn image_layers(&self) -> &[Descriptor] {
        match &self.source {
            Source::File { .. } => &[],
            Source::Content { layers, .. } => layers,
        }
    }

    /// Names of the layers for error messages, in the layers' order.
    pub fn names(&self) -> Vec<String> {
        match &self.source {
            Source::File { name, .. } => vec![name.clone()],
            Source::Content { layers, .. } => layers.iter().map(rule::layer_name).collect(),
        }
    }

    /// Digest, in hexadecimal digits, of what decides the compiled code: the export, `preinit`, the variant and the layers.
    /// Components with the same identity compile to the same code.
    pub fn identity(&self) -> String {
        let mut hash = Sha256::new();
        let export = self.export.clone().unwrap_or_default();
        let preinit = self.preinit.then(|| PREINIT.to_owned());
        let made = preinit.into_iter().chain(self.variant.clone());
        for part in [export].into_iter().chain(made).chain(self.digests()) {
            // The length comes first, so that different lists of parts never have the same digest.
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hex::encode(hash.finalize())
    }

    /// Digests of the layers.
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

/// Finds what the container runs.
///
/// First looks for the entrypoint in the root file system and on the volumes, as Linux does (execvp(3)), and also in the
/// working directory. Only if it is not there, asks containerd for wasm layers. Their media types are `application/wasm`
/// (the CNCF Wasm OCI artifact), `application/wasm+zstd`, `application/vnd.wasm.content.layer.v1+wasm` and
/// `application/vnd.bytecodealliance.wasm.component.layer.v0+wasm`.
///
/// Ends within two minutes, even if containerd or a volume's server does not answer. Needs a Tokio runtime with I/O and
/// time.
///
/// # Errors
/// See [`Error`]. Each error names the file, the digest or containerd's socket. A Linux program that does not exist is
/// not an error here: it is [`Workload::Program`], and starting it fails.
pub async fn resolve(container: &Container<'_>) -> Result<Workload, Error> {
    let process = container.process();
    let (entrypoint, entry) = find(container).await?;
    match entry.step(&entrypoint)? {
        Step::Guest(file) => return of_file(file, &entrypoint, container, true).await,
        Step::Program(_) => return Ok(Workload::Program),
        Step::Layers => {}
    }
    let layers = match store::wasm_layers(container, process.name(), Timeouts::default()).await? {
        Layers::Wasm { store, layers, config, labels } => Ok((store, layers, config, labels)),
        Layers::None(why) => Err(why),
    };
    match rule::of_layers(&process, &entrypoint, layers)? {
        Some((store, layers, config, labels)) => {
            let labels = ours(labels)?;
            let source = Source::Content { store, layers, config };
            guest(source, &entrypoint, container, labels)
        }
        None => Ok(Workload::Program),
    }
}

/// Like [`resolve`], but looks only at the container's files: its root file system and its volumes. Returns `None` if
/// the entrypoint names no file that can run. The guest is not the container's own, so it is not initialised before it is
/// compiled.
///
/// # Errors
/// Those of [`resolve`].
pub async fn resolve_file(container: &Container<'_>) -> Result<Option<Workload>, Error> {
    let (entrypoint, entry) = find(container).await?;
    Ok(match entry {
        Entry::Guest(file) => {
            let container = Container { preinit: Some(false), ..*container };
            Some(of_file(file, &entrypoint, &container, false).await?)
        }
        Entry::Program(_) => Some(Workload::Program),
        Entry::Other { .. } | Entry::Nothing => None,
    })
}

/// Returns the annotations of a Pod, from CRI's record of the Pod's sandbox. `sandbox` is the sandbox's id.
///
/// # Errors
/// [`Error::Annotations`].
pub async fn pod_annotations(
    containerd: &Path,
    namespace: &str,
    sandbox: &str,
) -> Result<HashMap<String, String>, Error> {
    store::pod_annotations(containerd, namespace, sandbox, Timeouts::default()).await
}

/// Finds what the entrypoint means, and what exists there. Uses a separate thread, because open(2) and read(2) block if
/// a volume's server is gone.
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

/// Runs `work` on a separate thread, and waits for it for at most `limit`. The thread may block on a volume for longer.
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

/// Makes a guest of a file, with the digest of its present content.
async fn of_file(
    file: File,
    entrypoint: &Entrypoint<'_>,
    container: &Container<'_>,
    is_own: bool,
) -> Result<Workload, Error> {
    let name = entrypoint.path.to_owned();
    let read = move || {
        let size = file.metadata().map_err(Error::read(&name))?.len();
        // The file may have grown since its first bytes were read.
        rule::within_limit(&name, size)?;
        let digest = blob::digest(&file, size).map_err(Error::read(&name))?;
        Ok(Source::File { file, name, size, digest })
    };
    let read = in_time(entrypoint.path, limits::READ_TIME, read);
    let labels = async {
        match is_own {
            true => ours(store::labels(container, entrypoint.path, Timeouts::default()).await?),
            false => Ok(HashMap::new()),
        }
    };
    let (source, labels) = try_join!(read, labels)?;
    guest(source, entrypoint, container, labels)
}

/// Returns the labels for this runtime. In containerd, a container has its image's labels.
fn ours(mut labels: HashMap<String, String>) -> Result<HashMap<String, String>, Error> {
    labels.retain(|key, _| key.starts_with(PREFIX));
    labels.keys().try_for_each(|key| OF_IMAGE.check(key))?;
    Ok(labels)
}

/// Returns whether to initialise the guest. The Pod's choice takes precedence over the image's label.
fn preinit(container: &Container<'_>, labels: &HashMap<String, String>) -> Result<bool, Error> {
    match (container.preinit, labels.get(PREINIT)) {
        (Some(of_pod), _) => Ok(of_pod),
        (None, None) => Ok(false),
        (None, Some(value)) => Ok(value.parse().map_err(|_| OF_IMAGE.refused(PREINIT, value))?),
    }
}

fn guest(
    source: Source,
    entrypoint: &Entrypoint<'_>,
    container: &Container<'_>,
    labels: HashMap<String, String>,
) -> Result<Workload, Error> {
    let preinit = preinit(container, &labels)?;
    let mut args = container.args.to_vec();
    if let Some(first) = args.first_mut() {
        *first = entrypoint.path.to_owned();
    }
    let export = entrypoint.export.map(str::to_owned);
    let component = Component { source, export, preinit, variant: None, args, labels };
    Ok(Workload::Guest(Box::new(component)))
}
