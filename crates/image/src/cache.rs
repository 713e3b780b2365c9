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

use std::ffi::OsStr;
use std::fs::File;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::{Component, Error, Source, blob, limits};
use artefact::{Artefact, Whole};
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

/// What code was compiled from, and for. The code for one engine takes the place of that for another: a node has one,
/// but for the time of an upgrade.
#[derive(Debug, Clone)]
struct Key {
    /// Stands for the component and the export, in hexadecimal digits.
    name: String,
    /// Whatever else the code depends on.
    engine: String,
}

impl Key {
    fn new(component: &Component, engine: &str) -> Key {
        let what = format!("{FORM} {}", component.identity());
        let name = blob::hex(&Sha256::digest(what))[..KEY_DIGITS].to_owned();
        Key { name, engine: engine.to_owned() }
    }

    /// Whether a file is called so.
    fn is_name(name: &OsStr) -> bool {
        let digits = name.as_encoded_bytes();
        digits.len() == KEY_DIGITS && digits.iter().all(u8::is_ascii_hexdigit)
    }
}

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
        let key = Key::new(component, engine);
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
        let stored = self.stored(key, component).await;
        let (directory, key) = (self.directory.clone(), key.clone());
        let find = move || {
            let stored = stored.and_then(|path| Artefact::find(&path, &key.engine));
            stored.or_else(|| directory.find(&key))
        };
        let found = spawn_blocking(find).await.ok().flatten();
        let (about, file) = found?.into_parts();
        serde_json::from_value(about).ok().zip(Some(file))
    }

    /// Where the content store has it.
    async fn stored(&self, key: &Key, component: &Component) -> Option<PathBuf> {
        let Source::Content { store, layers, .. } = &component.source else { return None };
        let found = timeout(limits::CACHE_TIME, store.find_code(key, layers)).await;
        found
            .unwrap_or_else(|_| Err(store.failed("it does not answer")))
            .inspect_err(|error| log::warn!("look for compiled code in the content store: {error}"))
            .ok()
            .flatten()
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
        let (code, engine) = (code.try_clone().ok()?, key.engine.clone());
        let made = spawn_blocking(move || Artefact::new(code, about, &engine)).await.ok()?;
        let made = made.inspect_err(|error| self.warn("read the compiled code for", error));
        let (made, whole) = made.ok()?;
        let stored = store_code(key, component, &made, &whole).await;
        let (directory, key) = (self.directory.clone(), key.clone());
        let keep = move || {
            if let Some(path) = stored {
                match Artefact::find(&path, &key.engine) {
                    None => log::warn!("compiled code is not where the content store has it"),
                    kept => return Ok(kept),
                }
            }
            directory.keep(&key, &made, whole.size)?;
            Ok(directory.find(&key))
        };
        let kept = spawn_blocking(keep).await.ok()?;
        let kept = kept.inspect_err(|error| self.warn("keep compiled code in", error)).ok()?;
        kept.map(|kept| kept.into_parts().1)
    }

    fn warn(&self, action: &str, error: &std::io::Error) {
        log::warn!("{action} the cache {}: {error}", self.directory);
    }
}

/// Keeps the code in the content store, and returns where; none where it cannot be kept there.
async fn store_code(
    key: &Key,
    component: &Component,
    made: &Artefact,
    whole: &Whole,
) -> Option<PathBuf> {
    let Source::Content { store, layers, .. } = &component.source else { return None };
    let kept = timeout(limits::KEEP_TIME, store.keep_code(key, layers, made, whole)).await;
    kept.unwrap_or_else(|_| Err(store.failed("it takes too long")))
        .inspect_err(|error| {
            log::warn!("keep compiled code in containerd's content store: {error}");
        })
        .ok()
}
