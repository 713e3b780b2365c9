//! `wasi:keyvalue/batch`, which is the same in both drafts.

use std::sync::Arc;

use wasmtime::component::{LinkerInstance, Resource};

use super::store::{Change, Store, cost};
use super::{Bucket, change, done, lent};
use crate::host_calls;
use crate::state::State;

/// Defines the interface.
pub fn define(interface: &mut LinkerInstance<'_, State>) -> wasmtime::Result<()> {
    interface.func_wrap_async(
        "get-many",
        |mut store, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            host_calls::enter("wasi:keyvalue/batch get-many");
            Box::new(async move {
                let kept = lent(&mut store, &bucket)?;
                let is_sequential = store.data().is_sequential();
                let bytes = keys.iter().map(|key| cost(key, 0)).sum();
                let work = move |store: &Arc<Store>| store.get_many(keys);
                let read = done(is_sequential, kept, bytes, work).await?;
                // From here on they are in the guest's own memory.
                Ok((read.map(|(entries, _reserved)| entries),))
            })
        },
    )?;
    interface.func_wrap_async(
        "set-many",
        |store, (bucket, entries): (Resource<Bucket>, Vec<(String, Vec<u8>)>)| {
            host_calls::enter("wasi:keyvalue/batch set-many");
            let set = |(key, value)| Change::Set(key, value);
            change(store, bucket, Ok(entries.into_iter().map(set).collect()))
        },
    )?;
    interface.func_wrap_async(
        "delete-many",
        |store, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            host_calls::enter("wasi:keyvalue/batch delete-many");
            change(store, bucket, Ok(keys.into_iter().map(Change::Delete).collect()))
        },
    )
}
