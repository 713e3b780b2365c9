//! `wasi:keyvalue/atomics`: numbers, and in `0.2.0-draft2` values that are replaced only if they
//! have not changed.

use std::sync::Arc;

use wasmtime::component::{LinkerInstance, Resource, WasmList};

use super::error::Error;
use super::store::{Store, Version};
use super::{Bucket, copied, done, handle, lent, on};
use crate::host_calls;
use crate::interfaces::resource;
use crate::interfaces::types::CasError;
use crate::state::State;

/// A handle for one swap of a key's value.
pub struct Cas {
    store: Arc<Store>,
    key: String,
    version: Version,
}

impl Cas {
    fn new(store: Arc<Store>, key: String) -> Result<Cas, Error> {
        let version = store.watch(&key)?;
        Ok(Cas { store, key, version })
    }
}

impl Drop for Cas {
    fn drop(&mut self) {
        self.store.unwatch(&self.key);
    }
}

/// Defines the interface of `0.2.0-draft`.
pub fn define_draft(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    interface.func_wrap_async(
        "increment",
        |store, (bucket, key, delta): (Resource<Bucket>, String, u64)| {
            host_calls::enter("wasi:keyvalue/atomics increment");
            on(store, bucket, key.len(), move |store| store.increment(&key, delta))
        },
    )
}

/// Defines the interface of `0.2.0-draft2`.
pub fn define_draft2(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    interface.func_wrap_async(
        "increment",
        |store, (bucket, key, delta): (Resource<Bucket>, String, i64)| {
            host_calls::enter("wasi:keyvalue/atomics increment");
            on(store, bucket, key.len(), move |store| store.increment(&key, delta))
        },
    )?;
    resource::<Cas>(interface, "cas")?;
    interface.func_wrap_async(
        "[static]cas.new",
        |mut store, (bucket, key): (Resource<Bucket>, String)| {
            host_calls::enter("wasi:keyvalue/atomics cas.new");
            Box::new(async move {
                let kept = lent(&mut store, &bucket)?;
                let (is_sequential, bytes) = (store.data().is_sequential(), key.len() as u64);
                let work = move |store: &Arc<Store>| Cas::new(store.clone(), key);
                let made = done(is_sequential, kept, bytes, work).await?;
                Ok((handle(&mut store, made)?,))
            })
        },
    )?;
    interface.func_wrap_async("[method]cas.current", |mut store, (cas,): (Resource<Cas>,)| {
        host_calls::enter("wasi:keyvalue/atomics cas.current");
        Box::new(async move {
            let Cas { store: kept, key, version } = store.data_mut().table().get(&cas)?;
            let (kept, key, version) = (kept.clone(), key.clone(), *version);
            let is_sequential = store.data().is_sequential();
            let work = move |store: &Arc<Store>| store.current(&key, version);
            let read = done(is_sequential, kept, 0, work).await?;
            let Ok((value, version)) = read else { return Ok((read.map(|(value, _)| value),)) };
            store.data_mut().table().get_mut(&cas)?.version = version;
            Ok((Ok(value),))
        })
    })?;
    interface.func_wrap_async("swap", |mut store, (cas, value): (Resource<Cas>, WasmList<u8>)| {
        host_calls::enter("wasi:keyvalue/atomics swap");
        let value = copied(&store, &value);
        Box::new(async move {
            let cas = store.data_mut().table().delete(cas)?;
            let kept = cas.store.clone();
            let is_sequential = store.data().is_sequential();
            let bytes = value.as_ref().map_or(0, |value| value.len() as u64);
            let swapped = done(is_sequential, kept, bytes, move |store| {
                match store.swap(&cas.key, cas.version, value?)? {
                    true => Ok(None),
                    false => Cas::new(store.clone(), cas.key.clone()).map(Some),
                }
            });
            let Some(newer) = swapped.await?.transpose() else { return Ok((Ok(()),)) };
            let newer = handle(&mut store, newer)?;
            Ok((Err(newer.map_or_else(CasError::Store, CasError::Failed)),))
        })
    })
}
