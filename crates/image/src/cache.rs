//! Cache of compiled code on the node. A component is compiled once, even if several containers start it at the same
//! time. Its code is one file, which all of them map.
//!
//! Code of an image's wasm layer is in containerd's content store (`content`). A label of the layer refers to it, so that
//! it exists for as long as the layer. Code of a file, and code that the content store does not accept, is in a directory
//! of the shim's own (`directory`). If there is no room, the code there that was used longest ago is removed. The form of
//! the file is the same in both (`artefact`).
//!
//! A process that compiles has a `lock` for the key, and one of the node's compile slots. The slots limit how many
//! processes of the node compile at a time. The kernel releases both locks if the process is killed.
//!
//! If the cache does not work, the log says so, and the guest still runs, but later.

mod artefact;
mod content;
mod directory;
mod lock;

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::{Component, Error, Source, limits};
use artefact::{Artefact, WholeFile};
use directory::Directory;

/// Version of the form in which code is stored.
const FORM: &str = "1";

/// Length of a key's name, in hexadecimal digits: 128 bits of a digest.
const KEY_DIGITS: usize = 32;

/// Cache of compiled code: containerd's content store, and a directory.
#[derive(Debug, Clone)]
pub struct Cache {
    directory: Directory,
}

/// Limits on the node's compilations.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// Maximum number of compilations at a time.
    pub at_a_time: u32,
    /// Time limit of each compilation.
    pub time: Duration,
}

/// Maximum wait for a compile slot, as a multiple of the time limit of a compilation. The wait needs a limit because a
/// process that has a slot may have been stopped.
const SLOT_WAIT_FACTOR: u32 = 2;

impl Allowed {
    /// Maximum wait for a compile slot.
    fn slot_wait(self) -> Duration {
        self.time * SLOT_WAIT_FACTOR
    }

    /// Maximum wait for the lock of a key. A process that has the lock waits for a compile slot, compiles, and writes the
    /// code.
    fn key_wait(self) -> Duration {
        self.slot_wait() + self.time + limits::WRITE_TIME
    }
}

/// Compile slot: a lock of one of the node's slots, released when it is dropped. There is no lock if the directory for the
/// lock file is not usable.
#[derive(Debug)]
pub struct CompileSlot {
    _lock: Option<File>,
}

/// Key of compiled code. The name does not depend on the engine, so code for one engine replaces code for another. A node
/// has two engines only during an upgrade.
#[derive(Debug, Clone)]
struct Key {
    /// Digest of the component's identity, in hexadecimal digits.
    name: String,
    /// Everything else that the code depends on.
    engine: String,
}

impl Key {
    fn new(component: &Component, engine: &str) -> Key {
        let what = format!("{FORM} {}", component.identity());
        let name = hex::encode(Sha256::digest(what))[..KEY_DIGITS].to_owned();
        Key { name, engine: engine.to_owned() }
    }

    /// Whether a file name has the form of a key's name.
    fn is_name(name: &OsStr) -> bool {
        let digits = name.as_encoded_bytes();
        digits.len() == KEY_DIGITS && digits.iter().all(u8::is_ascii_hexdigit)
    }
}

impl Cache {
    /// Creates a cache. `directory` is for code that is not in the content store. It is created when it is needed.
    pub fn new(directory: PathBuf) -> Cache {
        Cache { directory: Directory::new(directory) }
    }

    /// Returns the code of a component, and the description that was stored with it. If the cache has no code, waits for a
    /// compile slot, and calls `compile` with the layers.
    ///
    /// `engine` identifies everything else that the code depends on: the compiler's version and settings, and the
    /// processor.
    ///
    /// # Errors
    /// Those of reading the layers, [`Error::NoCompileSlot`], and those of `compile`.
    pub async fn code<T, E, F>(
        &self,
        component: &Component,
        engine: &str,
        allowed: Allowed,
        compile: impl FnOnce(Vec<File>, CompileSlot) -> F,
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
        // If another process compiled the same while this one waited for the lock, its code is there now.
        let key_lock = self.lock(&key, allowed).await;
        if let Some(found) = self.find(&key, component).await {
            return Ok(found);
        }
        // The layers are copied into memory, so they are read only when there is a compile slot.
        let slot = self.compile_slot(allowed).await?;
        let (about, code) = compile(component.layers().await?, slot).await?;
        let stored = self.store(&key, component, &about, &code).await;
        drop(key_lock);
        Ok((about, stored.unwrap_or(code)))
    }

    async fn find<T: DeserializeOwned>(
        &self,
        key: &Key,
        component: &Component,
    ) -> Option<(T, File)> {
        let stored = self.find_in_content_store(key, component).await;
        let (directory, key) = (self.directory.clone(), key.clone());
        let find = move || {
            let stored = stored.and_then(|path| Artefact::find(&path, &key.engine));
            stored.or_else(|| directory.find(&key))
        };
        let found = spawn_blocking(find).await.ok().flatten();
        let (about, file) = found?.into_parts();
        serde_json::from_value(about).ok().zip(Some(file))
    }

    /// Returns the path of the code in the content store.
    async fn find_in_content_store(&self, key: &Key, component: &Component) -> Option<PathBuf> {
        let Source::Content { store, layers, .. } = &component.source else { return None };
        let found = timeout(limits::CACHE_TIME, store.find_code(key, layers)).await;
        found
            .unwrap_or_else(|_| Err(store.failed("it does not answer")))
            .inspect_err(|error| log::warn!("look for compiled code in the content store: {error}"))
            .ok()
            .flatten()
    }

    async fn lock(&self, key: &Key, allowed: Allowed) -> Option<File> {
        let locked = match self.lock_file().await {
            Ok(file) => lock::of_key(file, key, allowed.key_wait()).await,
            Err(error) => Err(error),
        };
        locked.inspect_err(|error| self.warn("lock", error)).ok()
    }

    /// Waits for a compile slot.
    ///
    /// # Errors
    /// [`Error::NoCompileSlot`] if the wait takes too long.
    pub async fn compile_slot(&self, allowed: Allowed) -> Result<CompileSlot, Error> {
        let (at_a_time, within) = (allowed.at_a_time, allowed.slot_wait());
        let taken = match self.lock_file().await {
            Ok(file) => lock::slot(file, at_a_time, within).await,
            Err(error) => Err(error),
        };
        match taken {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(Error::NoCompileSlot { at_a_time, within })
            }
            taken => {
                let lock =
                    taken.inspect_err(|error| self.warn("take a compile slot in", error)).ok();
                Ok(CompileSlot { _lock: lock })
            }
        }
    }

    async fn lock_file(&self) -> io::Result<File> {
        let directory = self.directory.clone();
        let opened = spawn_blocking(move || lock::open(&directory.open()?)).await;
        opened.unwrap_or_else(|panicked| Err(panicked.into()))
    }

    /// Stores the code, and returns the stored file. Returns `None` if it cannot be stored.
    async fn store<T: Serialize>(
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
        let stored = write_to_content_store(key, component, &made, &whole).await;
        let (directory, key) = (self.directory.clone(), key.clone());
        let write = move || {
            if let Some(path) = stored {
                match Artefact::find(&path, &key.engine) {
                    None => log::warn!("compiled code is not where the content store has it"),
                    found => return Ok(found),
                }
            }
            directory.write(&key, &made, whole.size)?;
            Ok(directory.find(&key))
        };
        let stored = spawn_blocking(write).await.ok()?;
        let stored = stored.inspect_err(|error| self.warn("write compiled code to", error)).ok()?;
        stored.map(|artefact| artefact.into_parts().1)
    }

    fn warn(&self, action: &str, error: &io::Error) {
        log::warn!("{action} the cache {}: {error}", self.directory);
    }
}

/// Writes the code to the content store, and returns its path. Returns `None` if it cannot be stored there.
async fn write_to_content_store(
    key: &Key,
    component: &Component,
    made: &Artefact,
    whole: &WholeFile,
) -> Option<PathBuf> {
    let Source::Content { store, layers, .. } = &component.source else { return None };
    let written = timeout(limits::WRITE_TIME, store.write_code(key, layers, made, whole)).await;
    written
        .unwrap_or_else(|_| Err(store.failed("it takes too long")))
        .inspect_err(|error| {
            log::warn!("write compiled code to containerd's content store: {error}");
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_waits_as_long_as_the_compilations_before_its_own_may_take() {
        let allowed = |seconds| Allowed { at_a_time: 1, time: Duration::from_secs(seconds) };
        assert_eq!(allowed(1).slot_wait(), Duration::from_secs(2));
        assert_eq!(allowed(1).key_wait(), Duration::from_secs(3) + limits::WRITE_TIME);
        assert_eq!(allowed(300).key_wait(), Duration::from_secs(900) + limits::WRITE_TIME);
    }
}
