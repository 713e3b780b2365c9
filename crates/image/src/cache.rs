//! Compiled code, kept on the node. A component is compiled once, however many containers start it at the same time,
//! and its code is one file that all of them map.
//!
//! Code of an image's wasm layer is in containerd's content store (`content`), and a label of the layer keeps it for as
//! long as the layer exists. Code of a file, and code that the content store does not accept, is in a directory of the
//! shim's own (`directory`), where the code that was used longest ago is removed if there is no room. The form of the
//! file is the same in both (`artefact`). A process that compiles holds a `lock` for the key, and one of the locks that
//! bound how many processes of the node compile at a time. The kernel releases both if the process is killed.
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

/// What the node allows to those who compile.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// How many compile at a time.
    pub at_a_time: u32,
    /// How long each may take.
    pub time: Duration,
}

/// How long a turn is waited for, in times of a compilation: whoever has one may have been stopped.
const TURNS_WAITED: u32 = 2;

impl Allowed {
    fn until_turn(self) -> Duration {
        self.time * TURNS_WAITED
    }

    /// As long as another may need that compiles the same: it waits for its turn, compiles, and keeps the code.
    fn until_compiled(self) -> Duration {
        self.until_turn() + self.time + limits::KEEP_TIME
    }
}

/// A turn to compile, given back when it is dropped. Without a directory for the lock there is nothing to hold.
#[derive(Debug)]
pub struct Turn {
    _held: Option<File>,
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
        let name = hex::encode(Sha256::digest(what))[..KEY_DIGITS].to_owned();
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

    /// The code of a component, and what is known of it: as found, or else as `compile` makes it of the layers, in its
    /// turn.
    ///
    /// `engine` stands for whatever else the code depends on: the compiler's version and settings, the processor.
    ///
    /// # Errors
    /// Of reading the layers, [`Error::NoTurn`], and those of `compile`.
    pub async fn code<T, E, F>(
        &self,
        component: &Component,
        engine: &str,
        allowed: Allowed,
        compile: impl FnOnce(Vec<File>, Turn) -> F,
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
        let held = self.lock(&key, allowed).await;
        if let Some(found) = self.find(&key, component).await {
            return Ok(found);
        }
        // The layers are copied into memory: not before it is their turn.
        let turn = self.turn(allowed).await?;
        let (about, code) = compile(component.layers().await?, turn).await?;
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

    async fn lock(&self, key: &Key, allowed: Allowed) -> Option<File> {
        let locked = match self.lock_file().await {
            Ok(file) => lock::of_key(file, key, allowed.until_compiled()).await,
            Err(error) => Err(error),
        };
        locked.inspect_err(|error| self.warn("lock", error)).ok()
    }

    /// Waits until less than may compile at a time do.
    ///
    /// # Errors
    /// [`Error::NoTurn`] when that takes too long.
    pub async fn turn(&self, allowed: Allowed) -> Result<Turn, Error> {
        let (at_a_time, within) = (allowed.at_a_time, allowed.until_turn());
        let taken = match self.lock_file().await {
            Ok(file) => lock::turn(file, at_a_time, within).await,
            Err(error) => Err(error),
        };
        match taken {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(Error::NoTurn { at_a_time, within })
            }
            taken => {
                let held = taken.inspect_err(|error| self.warn("take a turn in", error)).ok();
                Ok(Turn { _held: held })
            }
        }
    }

    async fn lock_file(&self) -> io::Result<File> {
        let directory = self.directory.clone();
        let opened = spawn_blocking(move || lock::open(&directory.open()?)).await;
        opened.unwrap_or_else(|panicked| Err(panicked.into()))
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

    fn warn(&self, action: &str, error: &io::Error) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_waited_for_as_long_as_a_compilation_may_take_and_not_longer() {
        let allowed = |seconds| Allowed { at_a_time: 1, time: Duration::from_secs(seconds) };
        assert_eq!(allowed(1).until_turn(), Duration::from_secs(2));
        assert_eq!(allowed(1).until_compiled(), Duration::from_secs(3) + limits::KEEP_TIME);
        assert_eq!(allowed(300).until_compiled(), Duration::from_secs(900) + limits::KEEP_TIME);
    }
}
