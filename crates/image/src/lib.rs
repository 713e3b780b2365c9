//! From a container to its workload: which file or layers it runs, and whether they are wasm.
//!
//! Read in this order: [`resolve`] here, which orders the steps; `entrypoint` (what
//! `process.args[0]` names, and where it may be), `rootfs` (opening it without leaving the
//! container), `header` (what a file is, by its first bytes), `store` (wasm layers, from
//! containerd's content store), `manifest` (choosing them, without I/O) and `blob` (a checked copy).
//!
//! Nothing here parses wasm: that is for a confined process. What is read of an image are the first
//! bytes of one file and, within limits, its index and manifest.

#![forbid(unsafe_code)]

mod blob;
mod entrypoint;
mod errors;
mod header;
mod limits;
mod manifest;
mod rootfs;
mod store;

use std::fs::File;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use entrypoint::Entrypoint;
pub use errors::Error;
use header::Kind;
use rootfs::{Found, Root};
use store::{Layers, Patience};

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
}

/// What a container runs.
#[derive(Debug)]
pub enum Workload {
    /// A program for the kernel to execute, or for it to say why not.
    Linux,
    /// A guest.
    Wasm(Component),
}

/// A guest's code and how it is called.
#[derive(Debug)]
pub struct Component {
    /// Files with wasm or its text form, open for reading, at their start. At least one: the first
    /// is the application, the others satisfy its imports.
    pub layers: Vec<File>,
    /// The export to call, of `path#export`; never empty.
    pub export: Option<String>,
    /// What the guest sees as its arguments: `process.args` with the first without its `#export`.
    pub args: Vec<String>,
}

/// Finds out what the container runs.
///
/// The entrypoint is first looked for in the root file system and on the volumes, as Linux would
/// (execvp(3)), and also in the working directory. containerd is asked for wasm layers only when it
/// is not there. Recognised are the media types `application/wasm` (the CNCF Wasm OCI artifact),
/// `application/vnd.wasm.content.layer.v1+wasm` and
/// `application/vnd.bytecodealliance.wasm.component.layer.v0+wasm`.
///
/// Ends within two minutes, whatever containerd or a volume's server does. Needs a Tokio runtime
/// with I/O and time.
///
/// # Errors
/// See [`Error`]; each names the file, the digest or containerd's socket. A Linux program that is not
/// there is none: that is [`Workload::Linux`], and starting it says so.
pub async fn resolve(container: &Container<'_>) -> Result<Workload, Error> {
    let name = container.args.first().map_or("", String::as_str);
    let (entrypoint, found) = find(container, name).await?;
    match found {
        Entry::Guest(file) => return Ok(guest(vec![file], &entrypoint, container)),
        Entry::Program => return Ok(Workload::Linux),
        Entry::Other { path, found } if entrypoint.looks_like_wasm() => {
            return Err(Error::NotAFile { path, found });
        }
        Entry::Other { .. } | Entry::Nothing => {}
    }
    match store::wasm_layers(container, name, Patience::default()).await? {
        Layers::Wasm(layers) => Ok(guest(layers, &entrypoint, container)),
        Layers::None(image) if entrypoint.looks_like_wasm() => {
            let looked = entrypoint.looked(container);
            Err(Error::EntrypointNotFound { entrypoint: name.to_owned(), looked, image })
        }
        Layers::None(_) => Ok(Workload::Linux),
    }
}

/// The same of what is in the container's files alone, its root and its volumes: `None` when no file of that name
/// can be run.
///
/// # Errors
/// As [`resolve`].
pub async fn resolve_file(container: &Container<'_>) -> Result<Option<Workload>, Error> {
    let name = container.args.first().map_or("", String::as_str);
    let (entrypoint, found) = find(container, name).await?;
    Ok(match found {
        Entry::Guest(file) => Some(guest(vec![file], &entrypoint, container)),
        Entry::Program => Some(Workload::Linux),
        Entry::Other { .. } | Entry::Nothing => None,
    })
}

/// What is at an entrypoint.
enum Entry {
    Guest(File),
    Program,
    Other { path: PathBuf, found: &'static str },
    Nothing,
}

/// What `name` means, and what is there: a file whose own name has a `#` is that file, and else the
/// part before the first `#` is the path.
async fn find<'a>(
    container: &Container<'_>,
    name: &'a str,
) -> Result<(Entrypoint<'a>, Entry), Error> {
    let parsed = Entrypoint::parse(name);
    if name.contains('#') {
        let whole = Entrypoint::whole(name);
        let entry = open(container, &whole).await?;
        if matches!(entry, Entry::Guest(_) | Entry::Program) {
            return Ok((whole, entry));
        }
    }
    Ok((parsed, open(container, &parsed).await?))
}

/// On a thread of its own: a volume's server may be gone, and open(2) and read(2) with it.
async fn open(container: &Container<'_>, entrypoint: &Entrypoint<'_>) -> Result<Entry, Error> {
    let (candidates, name) = (entrypoint.candidates(container), entrypoint.path.to_owned());
    let (rootfs, mounts) = (container.rootfs.to_owned(), container.mounts.to_vec());
    let search = move || match Root::new(rootfs, &mounts)?.first(&candidates)? {
        Found::File(file) => header::recognise(&file, &name).map(|kind| match kind {
            Kind::Wasm => Entry::Guest(file),
            Kind::Program => Entry::Program,
        }),
        Found::Other { path, found } => Ok(Entry::Other { path, found }),
        Found::Nothing => Ok(Entry::Nothing),
    };
    match timeout(limits::FILE_TIME, spawn_blocking(search)).await {
        Ok(Ok(found)) => found,
        Ok(Err(panicked)) => Err(Error::read(entrypoint.path)(panicked.into())),
        Err(_) => {
            let entrypoint = entrypoint.path.to_owned();
            Err(Error::Stuck { entrypoint, limit: limits::FILE_TIME })
        }
    }
}

fn guest(layers: Vec<File>, entrypoint: &Entrypoint<'_>, container: &Container<'_>) -> Workload {
    let mut args = container.args.to_vec();
    if let Some(first) = args.first_mut() {
        *first = entrypoint.path.to_owned();
    }
    Workload::Wasm(Component { layers, export: entrypoint.export.map(str::to_owned), args })
}
