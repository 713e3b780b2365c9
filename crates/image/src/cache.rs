//! Compiled code, kept on the node: a component is compiled once, however many containers start it at the same time,
//! and its code is one file that all of them map.
//!
//! Code of an image's wasm layer is in containerd's content store (`content`), where a label of the layer keeps it
//! for as long as there is the layer. Code of a file, and what the content store does not take, is in a directory of
//! the shim's own (`directory`), where what was not used for long makes room. The file's form is the same in both
//! (`artefact`). Whoever compiles holds a `lock` that the kernel takes back from whoever is killed.
//!
//! A cache that does not work costs time: that is said in the log, and the guest runs all the same.

mod artefact;
mod content;
mod directory;
mod lock;

use std::fs::File;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use crate::{Component, Error, Source, blob};
use artefact::Artefact;
use directory::Directory;

/// Changes with the form of what is kept.
const FORM: &str = "1";

/// How much of a key's digest names code: 128 bits, in hexadecimal digits.
const KEY_DIGITS: usize = 32;

/// Where compiled code is looked for and kept.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: Directory,
}

/// What code was compiled from, and for: component, export, engine.
#[derive(Debug, Clone)]
struct Key(String);

impl Cache {
    /// With a directory for what is not in the content store, which is made when it is needed.
    pub fn new(directory: PathBuf) -> Cache {
        Cache { directory: Directory::new(directory) }
    }

    /// The code of a component, and what is known of it: as found, or else as `compile` makes it of the layers.
    ///
    /// `engine` stands for whatever else the code depends on: the compiler's version and settings, the processor.
    ///
    /// # Errors
    /// Of reading the layers, and those of `compile`.
    pub async fn code<T, E, F>(
        &self,
        component: &Component,
        engine: &str,
        compile: impl FnOnce(Vec<File>) -> F,
    ) -> Result<(T, File), E>
    where
        T: Serialize + DeserializeOwned,
        E: From<Error>,
        F: Future<Output = Result<(T, File), E>>,
    {
        let key = key(component, engine);
        if let Some(found) = self.find(&key, component).await {
            return Ok(found);
        }
        // Whoever waited here for another to compile finds what that one kept.
        let held = self.lock(&key).await;
        if let Some(found) = self.find(&key, component).await {
            return Ok(found);
        }
        let (about, code) = compile(component.layers().await?).await?;
        let kept = self.keep(&key, component, &about, &code).await;
        drop(held);
        Ok((about, kept.unwrap_or(code)))
    }

    async fn find<T: DeserializeOwned>(
        &self,
        key: &Key,
        component: &Component,
    ) -> Option<(T, File)> {
        let found = match &component.source {
            Source::Content { store, layers } => match store.find_code(key, layers).await {
                Ok(Some(path)) => open(path).await,
                Ok(None) => None,
                Err(error) => {
                    log::warn!("look for compiled code in the content store: {error}");
                    None
                }
            },
            Source::File { .. } => None,
        };
        let found = match found {
            Some(found) => Some(found),
            None => open(self.directory.place(key)).await,
        };
        let (about, file) = found?.into_parts();
        serde_json::from_value(about).ok().zip(Some(file))
    }

    async fn lock(&self, key: &Key) -> Option<File> {
        let (directory, key) = (self.directory.clone(), key.clone());
        let locked = spawn_blocking(move || lock::exclusive(&directory.open()?, &key)).await;
        let locked = locked.unwrap_or_else(|panicked| Err(panicked.into()));
        locked.inspect_err(|error| self.warn("lock", error)).ok()
    }

    /// The file in which the code is kept from now on; none where it cannot be.
    async fn keep<T: Serialize>(
        &self,
        key: &Key,
        component: &Component,
        about: &T,
        code: &File,
    ) -> Option<File> {
        let about = serde_json::to_value(about).ok()?;
        let code = code.try_clone().ok()?;
        let made = spawn_blocking(move || Artefact::new(code, about)).await.ok()?;
        let made = made.inspect_err(|error| self.warn("read the compiled code for", error)).ok()?;
        if let Source::Content { store, layers } = &component.source {
            match store.keep_code(key, layers, &made).await {
                Ok(path) => match open(path).await {
                    Some(kept) => return Some(kept.into_parts().1),
                    None => log::warn!("compiled code is not where the content store has it"),
                },
                Err(error) => {
                    log::warn!("keep compiled code in containerd's content store: {error}");
                }
            }
        }
        let (directory, key) = (self.directory.clone(), key.clone());
        let kept = spawn_blocking(move || directory.keep(&key, &made)).await.ok()?;
        let path = kept.inspect_err(|error| self.warn("keep compiled code in", error)).ok()?;
        open(path).await.map(|kept| kept.into_parts().1)
    }

    fn warn(&self, action: &str, error: &std::io::Error) {
        log::warn!("{action} the cache {}: {error}", self.directory);
    }
}

/// The code in a file that is there and whole.
async fn open(path: PathBuf) -> Option<Artefact> {
    let opened = spawn_blocking(move || (Artefact::open(&path), path)).await;
    let (opened, path) = opened.ok()?;
    opened
        .inspect_err(|error| log::warn!("compiled code in {} is left: {error}", path.display()))
        .ok()
        .flatten()
}

fn key(component: &Component, engine: &str) -> Key {
    let mut hash = Sha256::new();
    let export = component.export.as_deref().unwrap_or_default();
    for part in [FORM, engine, export].map(str::to_owned).into_iter().chain(component.digests()) {
        // With its length, so that no two lists of parts read the same.
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    Key(blob::hex(&hash.finalize())[..KEY_DIGITS].to_owned())
}
