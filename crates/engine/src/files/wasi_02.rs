//! `wasi:filesystem` 0.2.

use wasmtime::component::Resource;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream,
    ErrorCode, Filesize, Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue,
    NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::errors::{self, named};
use super::{View, lent, push};

impl Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        Ok(exact(error.downcast()?))
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.wasi.filesystem_error_code(error)?.map(exact))
    }
}

/// The code of an error, which Wasmtime may have reduced to an I/O error.
fn exact(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::Io => errors::take().and_then(|it| named!(it, ErrorCode)).unwrap_or(code),
        code => code,
    }
}

fn is_refused(error: &FsError) -> bool {
    error.downcast_ref().is_some_and(|code| *code == ErrorCode::NotPermitted)
}

/// Makes a call with a directory and a path in it, or with two such pairs. If it is refused, makes it again with what the
/// paths lead to; the last name of a path is followed if its third item says so.
macro_rules! led {
    ($view:ident, [$(($directory:ident, $path:ident, $follows:expr)),+], $call:expr) => {{
        let led = {
            $(let ($directory, $path) = (lent(&$directory), $path.clone());)+
            $call.await
        };
        match led {
            Err(refused) if is_refused(&refused) => {
                $(let ($directory, $path) = $view.start(&$directory)?.find(&$path, $follows).await?;)+
                $(let $directory = push($view.wasi.table, $directory).map_err(FsError::trap)?;)+
                let held = [$(lent(&$directory)),+];
                let led = $call.await;
                for directory in held {
                    $view.wasi.table.delete(Resource::<Descriptor>::new_own(directory.rep()))?;
                }
                led
            }
            led => led,
        }
    }};
}

/// Functions without a path are those of Wasmtime.
macro_rules! unchanged {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $result:ty;)*) => {$(
        async fn $name(&mut self, $($arg: $ty),*) -> $result {
            self.wasi.$name($($arg),*).await
        }
    )*};
}

impl HostDescriptor for View<'_> {
    async fn create_directory_at(
        &mut self,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        led!(self, [(directory, path, false)], self.wasi.create_directory_at(directory, path))
    }

    async fn stat_at(
        &mut self,
        directory: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        let follows = flags.contains(PathFlags::SYMLINK_FOLLOW);
        led!(self, [(directory, path, follows)], self.wasi.stat_at(directory, flags, path))
    }

    async fn set_times_at(
        &mut self,
        directory: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let follows = flags.contains(PathFlags::SYMLINK_FOLLOW);
        led!(
            self,
            [(directory, path, follows)],
            self.wasi.set_times_at(directory, flags, path, accessed, modified)
        )
    }

    async fn link_at(
        &mut self,
        from: Resource<Descriptor>,
        flags: PathFlags,
        old_path: String,
        to: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        led!(
            self,
            [(from, old_path, false), (to, new_path, false)],
            self.wasi.link_at(from, flags, old_path, to, new_path)
        )
    }

    async fn open_at(
        &mut self,
        directory: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        how: OpenFlags,
        descriptor: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let follows =
            flags.contains(PathFlags::SYMLINK_FOLLOW) && !how.contains(OpenFlags::EXCLUSIVE);
        led!(
            self,
            [(directory, path, follows)],
            self.wasi.open_at(directory, flags, path, how, descriptor)
        )
    }

    async fn readlink_at(
        &mut self,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FsResult<String> {
        match self.wasi.readlink_at(lent(&directory), path.clone()).await {
            Err(refused) if is_refused(&refused) => {
                Ok(self.start(&directory)?.read_link(&path).await?)
            }
            read => read,
        }
    }

    async fn remove_directory_at(
        &mut self,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        led!(self, [(directory, path, false)], self.wasi.remove_directory_at(directory, path))
    }

    async fn rename_at(
        &mut self,
        from: Resource<Descriptor>,
        old_path: String,
        to: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        led!(
            self,
            [(from, old_path, false), (to, new_path, false)],
            self.wasi.rename_at(from, old_path, to, new_path)
        )
    }

    async fn symlink_at(
        &mut self,
        directory: Resource<Descriptor>,
        target: String,
        path: String,
    ) -> FsResult<()> {
        match self.wasi.symlink_at(lent(&directory), target.clone(), path.clone()).await {
            Err(refused) if is_refused(&refused) => {
                Ok(self.start(&directory)?.make_link(target, &path).await?)
            }
            made => made,
        }
    }

    async fn unlink_file_at(
        &mut self,
        directory: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        led!(self, [(directory, path, false)], self.wasi.unlink_file_at(directory, path))
    }

    async fn metadata_hash_at(
        &mut self,
        directory: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        let follows = flags.contains(PathFlags::SYMLINK_FOLLOW);
        led!(self, [(directory, path, follows)], self.wasi.metadata_hash_at(directory, flags, path))
    }

    unchanged! {
        advise(fd: Resource<Descriptor>, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()>;
        sync_data(fd: Resource<Descriptor>) -> FsResult<()>;
        get_flags(fd: Resource<Descriptor>) -> FsResult<DescriptorFlags>;
        get_type(fd: Resource<Descriptor>) -> FsResult<DescriptorType>;
        set_size(fd: Resource<Descriptor>, size: Filesize) -> FsResult<()>;
        set_times(
            fd: Resource<Descriptor>, accessed: NewTimestamp, modified: NewTimestamp
        ) -> FsResult<()>;
        read(fd: Resource<Descriptor>, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)>;
        write(fd: Resource<Descriptor>, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize>;
        read_directory(fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>>;
        sync(fd: Resource<Descriptor>) -> FsResult<()>;
        stat(fd: Resource<Descriptor>) -> FsResult<DescriptorStat>;
        is_same_object(fd: Resource<Descriptor>, other: Resource<Descriptor>) -> wasmtime::Result<bool>;
        metadata_hash(fd: Resource<Descriptor>) -> FsResult<MetadataHashValue>;
    }

    fn read_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynInputStream>> {
        self.wasi.read_via_stream(fd, offset)
    }

    fn write_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.wasi.write_via_stream(fd, offset)
    }

    fn append_via_stream(
        &mut self,
        fd: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        self.wasi.append_via_stream(fd)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        HostDescriptor::drop(&mut self.wasi, fd)
    }
}

impl HostDirectoryEntryStream for View<'_> {
    unchanged! {
        read_directory_entry(
            stream: Resource<DirectoryEntryStream>
        ) -> FsResult<Option<DirectoryEntry>>;
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.wasi, stream)
    }
}
