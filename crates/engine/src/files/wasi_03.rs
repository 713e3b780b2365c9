//! `wasi:filesystem` 0.3.

use std::io;

use wasmtime::AsContextMut;
use wasmtime::component::{Access, Accessor, FutureReader, Resource, StreamReader};
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p3::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize,
    Host, HostDescriptor, HostDescriptorWithStore, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p3::filesystem::{FilesystemError, FilesystemResult};

use super::errors::{self, named};
use super::place::Start;
use super::{Files, View, lent, push};
use crate::state::State;

type Store = Accessor<State, Files>;
type Written = FutureReader<Result<(), ErrorCode>>;
type Read<T> = (StreamReader<T>, Written);

impl Host for View<'_> {
    fn convert_error_code(&mut self, error: FilesystemError) -> wasmtime::Result<ErrorCode> {
        Ok(match error.downcast()? {
            ErrorCode::Io => exact(),
            code => code,
        })
    }
}

/// The code of an error that Wasmtime reduced to an I/O error; where WASI has no code for it, its text.
fn exact() -> ErrorCode {
    let Some(errno) = errors::take() else { return ErrorCode::Io };
    named!(errno, ErrorCode).unwrap_or_else(|| ErrorCode::Other(Some(errno.desc().to_owned())))
}

fn is_refused(error: &FilesystemError) -> bool {
    error.downcast_ref().is_some_and(|code| matches!(code, ErrorCode::NotPermitted))
}

fn start(store: &Store, directory: &Resource<Descriptor>) -> io::Result<Start> {
    store.with(|mut access| access.get().start(directory))
}

fn pushed(store: &Store, directory: Dir) -> FilesystemResult<Resource<Descriptor>> {
    let pushed = store.with(|mut access| push(access.get().wasi.table, directory));
    pushed.map_err(FilesystemError::trap)
}

fn delete(store: &Store, directory: &Resource<Descriptor>) -> FilesystemResult<()> {
    let own = Resource::<Descriptor>::new_own(directory.rep());
    store.with(|mut access| access.get().wasi.table.delete(own)).map(drop)?;
    Ok(())
}

/// A call of one of Wasmtime's functions.
macro_rules! wasi {
    ($store:ident, $name:ident($($arg:expr),*)) => {
        <WasiFilesystem as HostDescriptorWithStore<State>>::$name(
            &$store.with_getter::<WasiFilesystem>(State::filesystem), $($arg),*
        )
    };
}

/// As in 0.2: a call that is refused is made again with what its paths lead to.
macro_rules! led {
    ($store:ident, [$(($directory:ident, $path:ident, $follows:expr)),+], $name:ident($($arg:ident),*)) => {{
        let led = {
            $(let ($directory, $path) = (lent(&$directory), $path.clone());)+
            wasi!($store, $name($($arg),*)).await
        };
        match led {
            Err(refused) if is_refused(&refused) => {
                $(let ($directory, $path) =
                    start($store, &$directory)?.find(&$path, $follows).await?;)+
                $(let $directory = pushed($store, $directory)?;)+
                let held = [$(lent(&$directory)),+];
                let led = wasi!($store, $name($($arg),*)).await;
                held.iter().try_for_each(|directory| delete($store, directory))?;
                led
            }
            led => led,
        }
    }};
}

/// Functions without a path are those of Wasmtime.
macro_rules! unchanged {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $result:ty;)*) => {$(
        async fn $name(store: &Store, $($arg: $ty),*) -> $result {
            wasi!(store, $name($($arg),*)).await
        }
    )*};
}

/// So are those that need the store.
macro_rules! unchanged_in_store {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $result:ty;)*) => {$(
        fn $name(mut store: Access<'_, State, Files>, $($arg: $ty),*) -> $result {
            let own = Access::<_, WasiFilesystem>::new(store.as_context_mut(), State::filesystem);
            <WasiFilesystem as HostDescriptorWithStore<State>>::$name(own, $($arg),*)
        }
    )*};
}

impl HostDescriptorWithStore<State> for Files {
    async fn create_directory_at(
        store: &Store,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FilesystemResult<()> {
        led!(store, [(directory, path, false)], create_directory_at(directory, path))
    }

    async fn stat_at(
        store: &Store,
        directory: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FilesystemResult<DescriptorStat> {
        let follows = flags.contains(PathFlags::SYMLINK_FOLLOW);
        led!(store, [(directory, path, follows)], stat_at(directory, flags, path))
    }

    async fn set_times_at(
        store: &Store,
        directory: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FilesystemResult<()> {
        let follows = flags.contains(PathFlags::SYMLINK_FOLLOW);
        led!(
            store,
            [(directory, path, follows)],
            set_times_at(directory, flags, path, accessed, modified)
        )
    }

    async fn link_at(
        store: &Store,
        from: Resource<Descriptor>,
        flags: PathFlags,
        old_path: String,
        to: Resource<Descriptor>,
        new_path: String,
    ) -> FilesystemResult<()> {
        led!(
            store,
            [(from, old_path, false), (to, new_path, false)],
            link_at(from, flags, old_path, to, new_path)
        )
    }

    async fn open_at(
        store: &Store,
        directory: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        how: OpenFlags,
        descriptor: DescriptorFlags,
    ) -> FilesystemResult<Resource<Descriptor>> {
        let follows =
            flags.contains(PathFlags::SYMLINK_FOLLOW) && !how.contains(OpenFlags::EXCLUSIVE);
        led!(store, [(directory, path, follows)], open_at(directory, flags, path, how, descriptor))
    }

    async fn readlink_at(
        store: &Store,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FilesystemResult<String> {
        match wasi!(store, readlink_at(lent(&directory), path.clone())).await {
            Err(refused) if is_refused(&refused) => {
                Ok(start(store, &directory)?.read_link(&path).await?)
            }
            read => read,
        }
    }

    async fn remove_directory_at(
        store: &Store,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FilesystemResult<()> {
        led!(store, [(directory, path, false)], remove_directory_at(directory, path))
    }

    async fn rename_at(
        store: &Store,
        from: Resource<Descriptor>,
        old_path: String,
        to: Resource<Descriptor>,
        new_path: String,
    ) -> FilesystemResult<()> {
        led!(
            store,
            [(from, old_path, false), (to, new_path, false)],
            rename_at(from, old_path, to, new_path)
        )
    }

    async fn symlink_at(
        store: &Store,
        directory: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FilesystemResult<()> {
        match wasi!(store, symlink_at(lent(&directory), target.clone(), path.clone())).await {
            Err(refused) if is_refused(&refused) => {
                Ok(start(store, &directory)?.make_link(target, &path).await?)
            }
            made => made,
        }
    }

    async fn unlink_file_at(
        store: &Store,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FilesystemResult<()> {
        led!(store, [(directory, path, false)], unlink_file_at(directory, path))
    }

    async fn metadata_hash_at(
        store: &Store,
        directory: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FilesystemResult<MetadataHashValue> {
        let follows = flags.contains(PathFlags::SYMLINK_FOLLOW);
        led!(store, [(directory, path, follows)], metadata_hash_at(directory, flags, path))
    }

    unchanged! {
        advise(
            fd: Resource<Descriptor>, offset: Filesize, length: Filesize, advice: Advice
        ) -> FilesystemResult<()>;
        sync_data(fd: Resource<Descriptor>) -> FilesystemResult<()>;
        get_flags(fd: Resource<Descriptor>) -> FilesystemResult<DescriptorFlags>;
        get_type(fd: Resource<Descriptor>) -> FilesystemResult<DescriptorType>;
        set_size(fd: Resource<Descriptor>, size: Filesize) -> FilesystemResult<()>;
        set_times(
            fd: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp
        ) -> FilesystemResult<()>;
        sync(fd: Resource<Descriptor>) -> FilesystemResult<()>;
        stat(fd: Resource<Descriptor>) -> FilesystemResult<DescriptorStat>;
        is_same_object(
            fd: Resource<Descriptor>, other: Resource<Descriptor>
        ) -> wasmtime::Result<bool>;
        metadata_hash(fd: Resource<Descriptor>) -> FilesystemResult<MetadataHashValue>;
    }

    unchanged_in_store! {
        read_via_stream(
            fd: Resource<Descriptor>, offset: Filesize
        ) -> wasmtime::Result<Read<u8>>;
        write_via_stream(
            fd: Resource<Descriptor>, bytes: StreamReader<u8>, offset: Filesize
        ) -> wasmtime::Result<Written>;
        append_via_stream(
            fd: Resource<Descriptor>, bytes: StreamReader<u8>
        ) -> wasmtime::Result<Written>;
        read_directory(fd: Resource<Descriptor>) -> wasmtime::Result<Read<DirectoryEntry>>;
    }
}

impl HostDescriptor for View<'_> {
    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.wasi, fd)
    }
}
