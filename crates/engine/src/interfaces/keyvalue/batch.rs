//! `wasi:keyvalue/batch`, which is the same in both drafts.

use wasmtime::component::{LinkerInstance, Resource};

use super::store::Change;
use super::{Bucket, done, lent, on};
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
                let read = done(store.data(), kept, move |store| store.get_many(keys)).await?;
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
            on(store, bucket, move |store| store.apply(entries.into_iter().map(set).collect()))
        },
    )?;
    interface.func_wrap_async(
        "delete-many",
        |store, (bucket, keys): (Resource<Bucket>, Vec<String>)| {
            host_calls::enter("wasi:keyvalue/batch delete-many");
            on(store, bucket, move |store| {
                store.apply(keys.into_iter().map(Change::Delete).collect())
            })
        },
    )
}
