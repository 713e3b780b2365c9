//! `wasi:keyvalue`: a store for the container, in memory, in a file, or in a database of Redis.
//!
//! Read in this order: `store` (what all kinds have: bounds and operations), `local` with `in_memory` and `in_file`,
//! `in_redis`, then the functions: `open` and buckets here, `batch`, and `atomics`.
//!
//! `wasmtime-wasi-keyvalue` is not enough. Each of its `open` calls copies the initial contents of the store, so that
//! no instance sees what another one wrote. It bounds nothing and keeps nothing. And of the two drafts that toolchains
//! emit, it has only the older one.

pub mod atomics;
pub mod batch;
mod error;
mod in_file;
mod in_memory;
pub mod in_redis;
mod local;
mod store;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use plan::KeyValue;
use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Resource, WasmList};

use super::types::{KeysDraft, KeysDraft2, StoreError};
use super::{log_once, resource};
use crate::Plan;
use crate::blocking::blocking;
use crate::guard::Guard;
use crate::host_calls;
use crate::http::roots::Roots;
use crate::memory::Reserved;
use crate::named_path::NamedPath;
use crate::state::State;
use error::Error;
use in_redis::InRedis;
use store::{Change, Store, VALUE_BYTES, waiting};

/// The name of the one store. Guests for Spin open it by this name, others by an empty one.
const NAME: &str = "default";

/// How much of another name an error repeats, in characters.
const SHOWN: usize = 80;

/// The stores of a container: one, which is opened when a guest first asks for it. One in Redis connects then.
pub struct Stores {
    file: Option<NamedPath>,
    opened: Mutex<Option<Arc<Store>>>,
}

/// What a guest has of an open store.
pub struct Bucket(Arc<Store>);

/// What a function of the interface returns to its guest.
type Returned<T> = Result<T, StoreError>;

/// Future of a function's result.
type Answer<'a, T> = Box<dyn Future<Output = wasmtime::Result<(T,)>> + Send + 'a>;

impl Stores {
    /// As the plan says. TLS trusts these roots.
    pub fn new(plan: &Plan, roots: &Arc<Roots>) -> Stores {
        let named = |path: PathBuf| NamedPath::new(path, &plan.grants);
        let (file, redis) = match plan.keyvalue.clone() {
            None => (None, None),
            Some(KeyValue::File(path)) => (Some(named(path)), None),
            Some(KeyValue::Redis(redis)) => {
                let password = redis.password.clone().map(named);
                let guard = Guard::new(plan.grants.of_runtime());
                (None, Some(InRedis::new(redis, password, guard, roots.clone())))
            }
        };
        let redis = redis.map(|redis| Arc::new(Store::Redis(redis)));
        Stores { file, opened: Mutex::new(redis) }
    }

    /// Gives back what an idle server does not need.
    pub fn release(&self) {
        if let Ok(opened) = self.opened.try_lock() {
            opened.iter().for_each(|store| store.release());
        }
    }

    fn open(&self, name: &str) -> Result<Arc<Store>, Error> {
        if !["", NAME].contains(&name) {
            return Err(Error::NoSuchStore(name.chars().take(SHOWN).collect()));
        }
        self.opened()
    }

    /// Whether there is nothing to be opened.
    fn is_open(&self) -> bool {
        self.opened.try_lock().is_ok_and(|opened| opened.is_some())
    }

    fn opened(&self) -> Result<Arc<Store>, Error> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = &*opened {
            return Ok(store.clone());
        }
        let store = match &self.file {
            Some(file) => Store::in_file(file.clone())?,
            None => Store::in_memory(),
        };
        Ok(opened.insert(Arc::new(store)).clone())
    }
}

/// Defines `store` of `0.2.0-draft`.
pub fn define_draft(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    define(interface)?;
    interface.func_wrap_async(
        "[method]bucket.list-keys",
        |store, (bucket, cursor): (Resource<Bucket>, Option<u64>)| {
            host_calls::enter("wasi:keyvalue/store list-keys");
            on(store, bucket, 0, move |store| {
                let (keys, cursor) = store.keys(cursor)?;
                Ok(KeysDraft { keys, cursor })
            })
        },
    )
}

/// Defines `store` of `0.2.0-draft2`, whose cursors are texts.
pub fn define_draft2(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    define(interface)?;
    interface.func_wrap_async(
        "[method]bucket.list-keys",
        |store, (bucket, cursor): (Resource<Bucket>, Option<String>)| {
            host_calls::enter("wasi:keyvalue/store list-keys");
            on(store, bucket, 0, move |store| {
                let number = |text: String| text.parse().map_err(|_| Error::Cursor);
                let (keys, cursor) = store.keys(cursor.map(number).transpose()?)?;
                Ok(KeysDraft2 { keys, cursor: cursor.map(|number| number.to_string()) })
            })
        },
    )
}

/// Defines what is the same in both.
fn define(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    resource::<Bucket>(interface, "bucket")?;
    interface.func_wrap_async("open", |mut store, (name,): (String,)| {
        host_calls::enter("wasi:keyvalue/store open");
        Box::new(async move {
            let interfaces = store.data().interfaces().clone();
            let is_sequential = store.data().is_sequential();
            let is_quick = is_sequential || interfaces.keyvalue.is_open();
            let opened = blocking(is_quick, move || interfaces.keyvalue.open(&name)).await?;
            let opened = match returned(opened) {
                Ok(kept) => reached(is_sequential, kept).await?,
                Err(error) => Err(error),
            };
            Ok((handle(&mut store, opened.map(Bucket))?,))
        })
    })?;
    interface.func_wrap_async(
        "[method]bucket.get",
        |store, (bucket, key): (Resource<Bucket>, String)| {
            host_calls::enter("wasi:keyvalue/store get");
            on(store, bucket, key.len(), move |store| store.get(&key))
        },
    )?;
    interface.func_wrap_async(
        "[method]bucket.exists",
        |store, (bucket, key): (Resource<Bucket>, String)| {
            host_calls::enter("wasi:keyvalue/store exists");
            on(store, bucket, key.len(), move |store| store.exists(&key))
        },
    )?;
    interface.func_wrap_async(
        "[method]bucket.set",
        |store, (bucket, key, value): (Resource<Bucket>, String, WasmList<u8>)| {
            host_calls::enter("wasi:keyvalue/store set");
            let value = copied(&store, &value);
            change(store, bucket, value.map(|value| vec![Change::Set(key, value)]))
        },
    )?;
    interface.func_wrap_async(
        "[method]bucket.delete",
        |store, (bucket, key): (Resource<Bucket>, String)| {
            host_calls::enter("wasi:keyvalue/store delete");
            change(store, bucket, Ok(vec![Change::Delete(key)]))
        },
    )
}

/// A value of the guest's memory; one that is too long is not copied.
fn copied(store: &StoreContextMut<'_, State>, value: &WasmList<u8>) -> Result<Vec<u8>, Error> {
    match value.len() <= VALUE_BYTES {
        true => Ok(value.as_le_slice(store).to_vec()),
        false => Err(Error::LongValue(value.len())),
    }
}

/// Does the work of a function on a bucket's store. The arguments of the function have so many bytes.
fn on<'a, T: Send + 'static>(
    mut store: StoreContextMut<'a, State>,
    bucket: Resource<Bucket>,
    bytes: usize,
    work: impl FnOnce(&Store) -> Result<T, Error> + Send + 'static,
) -> Answer<'a, Returned<T>> {
    Box::new(async move {
        let kept = lent(&mut store, &bucket)?;
        let is_sequential = store.data().is_sequential();
        Ok((done(is_sequential, kept, bytes as u64, move |store| work(store)).await?,))
    })
}

/// Makes changes in a bucket's store.
fn change<'a>(
    store: StoreContextMut<'a, State>,
    bucket: Resource<Bucket>,
    changes: Result<Vec<Change>, Error>,
) -> Answer<'a, Returned<()>> {
    let bytes = changes.as_ref().map_or(0, |all| all.iter().map(Change::cost).sum::<u64>());
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    on(store, bucket, bytes, move |store| store.apply(changes?))
}

/// The store of a bucket.
fn lent(
    store: &mut StoreContextMut<'_, State>,
    bucket: &Resource<Bucket>,
) -> wasmtime::Result<Arc<Store>> {
    Ok(store.data_mut().table().get(bucket)?.0.clone())
}

/// Puts a resource into the guest's table, if it was made.
fn handle<T: Send + 'static>(
    store: &mut StoreContextMut<'_, State>,
    made: Returned<T>,
) -> wasmtime::Result<Returned<Resource<T>>> {
    Ok(match made {
        Ok(resource) => Ok(store.data_mut().table().push(resource)?),
        Err(error) => Err(error),
    })
}

/// Makes sure that a store can be used.
async fn reached(is_sequential: bool, store: Arc<Store>) -> wasmtime::Result<Returned<Arc<Store>>> {
    if !store.is_remote() {
        return Ok(Ok(store));
    }
    done(is_sequential, store, 0, |store| store.reach().map(|()| store.clone())).await
}

/// Does work on a store, on this thread if it is done at once. While the work waits for a disk or a server, what the guest
/// passed, of so many bytes, counts in the guest's part of the container's memory.
async fn done<T, W>(
    is_sequential: bool,
    store: Arc<Store>,
    bytes: u64,
    work: W,
) -> wasmtime::Result<Returned<T>>
where
    T: Send + 'static,
    W: FnOnce(&Arc<Store>) -> Result<T, Error> + Send + 'static,
{
    if store.is_in_memory() {
        return Ok(returned(work(&store)));
    }
    let mut reserved = Reserved::default();
    if !reserved.resize(waiting(bytes)) {
        return Ok(returned(Err(Error::NoRoom)));
    }
    let turn = match store.turn().await {
        Ok(turn) => turn,
        Err(error) => return Ok(returned(Err(error))),
    };
    let work = move || {
        let done = work(&store);
        drop((reserved, turn));
        done
    };
    Ok(returned(blocking(is_sequential, work).await?))
}

/// The error as the guest gets it. The line in the log is for a guest that does not report it.
fn returned<T>(done: Result<T, Error>) -> Returned<T> {
    done.map_err(|error| {
        log_once(error.kind(), &format!("warning: wasi:keyvalue: {error}"));
        error.into()
    })
}
