//! The functions of WASI 0.1 that are about files.
//!
//! Wasmtime keeps a module's descriptors in a table of its own, which cannot be changed from outside. So when a call
//! was refused, three steps follow. The directory that its path starts from is opened again, by a call that the guest
//! could have made. The new descriptor is changed to the directory that the path leads to. Then the guest's call is
//! made again with that descriptor. The arguments of these calls are in [`Scratch`], which replaces the guest's memory.
//!
//! Wasmtime generates these functions from WASI's own description. They are public, though Wasmtime does not mean them
//! for use from outside, so another version may have different ones.

use std::io;
use std::sync::Arc;

use nix::errno::Errno as System;
use wasmtime::{AsContextMut, Caller, Extern, Linker, bail};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{Descriptor, Dir};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::types::Errno;
use wasmtime_wasi::p1::wasi_snapshot_preview1 as wasi;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wiggle::{GuestMemory, GuestPtr};

use super::errors;
use super::place::Start;
use crate::guard::Guard;
use crate::host_calls;
use crate::state::ModuleState;

const SUCCESS: i32 = 0;

/// Bits of arguments (witx: `lookupflags`, `oflags`, `rights`).
const SYMLINK_FOLLOW: i32 = 1;
const DIRECTORY: i32 = 1 << 1;
const EXCLUSIVE: i32 = 1 << 2;
const FD_READ: i64 = 1 << 1;

/// What reports a path that leads out of the granted directories, if only some are granted.
type Granted = Option<Arc<Guard>>;

/// A path as an argument: the descriptor of its directory, and the address and length of its text.
type Path = (i32, i32, i32);

/// Replaces one of Wasmtime's functions.
macro_rules! function {
    ($linker:ident, $name:ident($($arg:ident: $ty:ty),*), |$own:ident, $memory:ident, $guard:ident| $call:expr) => {
        $linker.func_wrap_async(
            provided::MODULE,
            stringify!($name),
            |mut caller: Caller<'_, ModuleState>, ($($arg,)*): ($($ty,)*)| {
                Box::new(async move {
                    let exported = caller.get_export("memory");
                    let fuel = caller.as_context_mut().hostcall_fuel();
                    let Some(Extern::Memory(exported)) = exported else {
                        bail!("missing required memory export");
                    };
                    let (bytes, state) = exported.data_and_store_mut(&mut caller);
                    let ($own, $memory) = (&mut state.wasi, &mut GuestMemory::Unshared(bytes));
                    let $guard = &state.granted;
                    $own.set_hostcall_fuel(fuel);
                    // One that another function left there.
                    errors::take();
                    let errno: i32 = $call;
                    Ok(exact(errno))
                })
            },
        )?;
    };
}

/// Functions whose errors keep their codes.
macro_rules! named {
    ($linker:ident, $($name:ident($($arg:ident: $ty:ty),*);)*) => {$(
        function!($linker, $name($($arg: $ty),*), |own, memory, _guard| {
            wasi::$name(own, memory, $($arg),*).await?
        });
    )*};
}

/// A function that is called again with what its paths lead to, when it is refused. Its last argument may be the address
/// of its result, which has this many bytes.
macro_rules! led {
    (
        $linker:ident,
        $name:ident($($arg:ident: $ty:ty),*),
        [$(($fd:ident, $path:ident, $length:ident, $follows:expr)),+]
        $(, $returned:ident: $bytes:literal)?
    ) => {
        function!($linker, $name($($arg: $ty),*), |own, memory, guard| {
            let mut errno = wasi::$name(own, memory, $($arg),*).await?;
            if errno == number(Errno::Perm) {
                let mut scratch = Scratch::default();
                let paths = [$((($fd, $path, $length), $follows)),+];
                errno = match scratch.lead(own, memory, guard, &paths).await? {
                    Err(errno) => errno,
                    Ok(paths) => {
                        let mut paths = paths.into_iter();
                        $(let Some(($fd, $path, $length)) = paths.next() else {
                            bail!("a path is missing");
                        };)+
                        $(let place = $returned; let $returned = RETURNED;)?
                        let errno = wasi::$name(own, &mut scratch.memory(), $($arg),*).await?;
                        $(if errno == SUCCESS {
                            let place = GuestPtr::<[u8]>::new((place as u32, $bytes));
                            memory.copy_from_slice(&scratch.bytes[..$bytes], place)?;
                        })?
                        errno
                    }
                };
                scratch.close(own).await?;
            }
            errno
        });
    };
}

/// Replaces the functions that are about files in a linker, which must allow shadowing.
pub fn wrap(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    named! { linker,
        fd_write(fd: i32, buffers: i32, count: i32, written: i32);
        fd_pwrite(fd: i32, buffers: i32, count: i32, offset: i64, written: i32);
        fd_sync(fd: i32);
        fd_datasync(fd: i32);
        fd_filestat_set_size(fd: i32, size: i64);
        fd_filestat_set_times(fd: i32, accessed: i64, modified: i64, flags: i32);
    }
    led!(linker, path_create_directory(fd: i32, path: i32, length: i32), [(fd, path, length, false)]);
    led!(linker, path_remove_directory(fd: i32, path: i32, length: i32), [(fd, path, length, false)]);
    led!(linker, path_unlink_file(fd: i32, path: i32, length: i32), [(fd, path, length, false)]);
    led!(
        linker,
        path_filestat_get(fd: i32, flags: i32, path: i32, length: i32, returned: i32),
        [(fd, path, length, flags & SYMLINK_FOLLOW != 0)],
        returned: 64
    );
    led!(
        linker,
        path_filestat_set_times(
            fd: i32, flags: i32, path: i32, length: i32, accessed: i64, modified: i64, set: i32
        ),
        [(fd, path, length, flags & SYMLINK_FOLLOW != 0)]
    );
    led!(
        linker,
        path_open(
            fd: i32, flags: i32, path: i32, length: i32, how: i32, base: i64, inherited: i64,
            descriptor: i32, returned: i32
        ),
        [(fd, path, length, flags & SYMLINK_FOLLOW != 0 && how & EXCLUSIVE == 0)],
        returned: 4
    );
    led!(
        linker,
        path_link(
            fd: i32, flags: i32, path: i32, length: i32, to: i32, new_path: i32, new_length: i32
        ),
        [(fd, path, length, false), (to, new_path, new_length, false)]
    );
    led!(
        linker,
        path_rename(fd: i32, path: i32, length: i32, to: i32, new_path: i32, new_length: i32),
        [(fd, path, length, false), (to, new_path, new_length, false)]
    );
    links(linker)
}

/// The functions that read and make links: Wasmtime refuses absolute ones.
fn links(linker: &mut Linker<ModuleState>) -> wasmtime::Result<()> {
    function!(
        linker,
        path_readlink(fd: i32, path: i32, length: i32, buffer: i32, room: i32, returned: i32),
        |own, memory, guard| {
            let errno =
                wasi::path_readlink(own, memory, fd, path, length, buffer, room, returned).await?;
            match refused(own, guard, errno, fd).await? {
                Err(errno) => errno,
                Ok(start) => match start.read_link(&text(memory, path, length)?).await {
                    Err(error) => of_system(&error),
                    Ok(target) => {
                        let count = target.len().min(room as u32 as usize);
                        let place = GuestPtr::<[u8]>::new((buffer as u32, count as u32));
                        memory.copy_from_slice(&target.as_bytes()[..count], place)?;
                        memory.write(GuestPtr::<u32>::new(returned as u32), count as u32)?;
                        SUCCESS
                    }
                },
            }
        }
    );
    function!(
        linker,
        path_symlink(target: i32, target_length: i32, fd: i32, path: i32, length: i32),
        |own, memory, guard| {
            let errno =
                wasi::path_symlink(own, memory, target, target_length, fd, path, length).await?;
            match refused(own, guard, errno, fd).await? {
                Err(errno) => errno,
                Ok(start) => {
                    let target = text(memory, target, target_length)?;
                    let made = start.make_link(target, &text(memory, path, length)?).await;
                    made.map_or_else(|error| of_system(&error), |()| SUCCESS)
                }
            }
        }
    );
    Ok(())
}

/// The directory of a call that was refused; or the error of WASI, if it was not refused or there is no such directory.
async fn refused(
    own: &mut WasiP1Ctx,
    granted: &Granted,
    errno: i32,
    fd: i32,
) -> wasmtime::Result<Result<Start, i32>> {
    if errno != number(Errno::Perm) {
        return Ok(Err(errno));
    }
    let mut scratch = Scratch::default();
    let reopened = scratch.reopen(own, fd).await?;
    scratch.close(own).await?;
    Ok(reopened.map(|(_, dir)| Start { dir, sequential: true, granted: granted.clone() }))
}

/// The address of a call's result in [`Scratch`].
const RETURNED: i32 = 0;

/// The size of the largest result, in bytes (witx: `filestat`).
const RETURNED_BYTES: usize = 64;

/// What calls need that are made on behalf of a guest.
struct Scratch {
    /// Their memory.
    bytes: Vec<u8>,
    /// The descriptors that they opened.
    opened: Vec<i32>,
    /// The call that the guest made.
    guests: host_calls::Mark,
}

impl Default for Scratch {
    fn default() -> Scratch {
        let (bytes, opened) = (vec![0; RETURNED_BYTES], Vec::new());
        Scratch { bytes, opened, guests: host_calls::mark() }
    }
}

impl Scratch {
    fn memory(&mut self) -> GuestMemory<'_> {
        GuestMemory::Unshared(&mut self.bytes)
    }

    /// Adds a text; its address and length.
    fn put(&mut self, text: &str) -> (i32, i32) {
        let place = self.bytes.len();
        self.bytes.extend_from_slice(text.as_bytes());
        (place as i32, text.len() as i32)
    }

    /// What the paths lead to, as arguments of a call with this memory; or the error of WASI.
    async fn lead(
        &mut self,
        wasi: &mut WasiP1Ctx,
        memory: &GuestMemory<'_>,
        granted: &Granted,
        paths: &[(Path, bool)],
    ) -> wasmtime::Result<Result<Vec<Path>, i32>> {
        let mut led = Vec::new();
        for ((fd, path, length), follows) in paths {
            let path = text(memory, *path, *length)?;
            let (opened, dir) = match self.reopen(wasi, *fd).await? {
                Ok(opened) => opened,
                Err(errno) => return Ok(Err(errno)),
            };
            let (before, start) =
                (dir.dir.clone(), Start { dir, sequential: true, granted: granted.clone() });
            let (directory, name) = match start.find(&path, *follows).await {
                Ok(place) => place,
                Err(error) => return Ok(Err(of_system(&error))),
            };
            for dir in directories(wasi).filter(|dir| Arc::ptr_eq(&dir.dir, &before)) {
                *dir = directory.clone();
            }
            let (path, length) = self.put(&name);
            led.push((opened, path, length));
        }
        Ok(Ok(led))
    }

    /// Another descriptor of the same directory; or the error of WASI.
    async fn reopen(
        &mut self,
        wasi: &mut WasiP1Ctx,
        fd: i32,
    ) -> wasmtime::Result<Result<(i32, Dir), i32>> {
        let address = |dir: &Dir| Arc::as_ptr(&dir.dir).addr();
        let before: Vec<usize> = directories(wasi).map(|dir| address(dir)).collect();
        let (path, length) = self.put(".");
        let memory = &mut self.memory();
        let errno =
            wasi::path_open(wasi, memory, fd, 0, path, length, DIRECTORY, FD_READ, 0, 0, RETURNED);
        let errno = errno.await?;
        if errno != SUCCESS {
            return Ok(Err(errno));
        }
        let opened = memory.read(GuestPtr::<i32>::new(RETURNED as u32))?;
        self.opened.push(opened);
        let new = directories(wasi).find(|dir| !before.contains(&address(dir)));
        Ok(new.map(|dir| (opened, dir.clone())).ok_or_else(|| number(Errno::Perm)))
    }

    async fn close(mut self, wasi: &mut WasiP1Ctx) -> wasmtime::Result<()> {
        for fd in std::mem::take(&mut self.opened) {
            wasi::fd_close(wasi, &mut self.memory(), fd).await?;
        }
        host_calls::reset(self.guests);
        Ok(())
    }
}

/// The directories that a module has open.
fn directories(wasi: &mut WasiP1Ctx) -> impl Iterator<Item = &mut Dir> {
    wasi.ctx().table.iter_mut().filter_map(|entry| match entry.downcast_mut() {
        Some(Descriptor::Dir(dir)) => Some(dir),
        _ => None,
    })
}

fn text(memory: &GuestMemory<'_>, place: i32, length: i32) -> wasmtime::Result<String> {
    Ok(memory.as_cow_str(GuestPtr::new((place as u32, length as u32)))?.into_owned())
}

fn number(errno: Errno) -> i32 {
    u16::from(errno).into()
}

/// The error of WASI for one of the system.
fn of_system(error: &io::Error) -> i32 {
    number(ErrorCode::from(error).into())
}

/// The error of WASI, which Wasmtime may have reduced to an I/O error.
fn exact(errno: i32) -> i32 {
    if errno != number(Errno::Io) {
        return errno;
    }
    let named = errors::take().map(|lost| match lost {
        System::EMFILE => Errno::Mfile,
        System::ENFILE => Errno::Nfile,
        System::ESTALE => Errno::Stale,
        lost => errors::named!(lost, ErrorCode).map_or(Errno::Io, Errno::from),
    });
    named.map_or(errno, number)
}
