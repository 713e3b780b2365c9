//! A guest's files: Wasmtime's implementation of `wasi:filesystem`, changed so that a guest sees what a program in the
//! container would see, as far as it is granted.
//!
//! Links: Wasmtime resolves a path within the directory that it starts from, and refuses an absolute link, or one that
//! leads out of that directory, as an escape. A guest gets one directory, the container's root. That is also the root
//! of the guest's process (pivot_root(2)), so that no link can lead the kernel out of it. Therefore a call that
//! Wasmtime refused is made again with what its path leads to ([`place`]). A call that was not refused costs no more
//! than before. Guests can also read and make absolute links. WASI forbids that because of roots that are not the
//! guest's own.
//!
//! Grants: if only some directories are granted, the guest has those instead of the root ([`granted`]). Then Wasmtime's
//! refusal stands, so that no link leads out of them.
//!
//! Errors: Wasmtime returns "I/O error" for EROFS, EXDEV and others, for which WASI has codes ([`errors`]).

mod errors;
mod granted;
mod place;
mod wasi_01;
mod wasi_02;
mod wasi_03;

use std::io;
use std::sync::Arc;

use nix::errno::Errno;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystemCtxView};
use wasmtime_wasi::{p2, p3};

use crate::guard::Guard;
use crate::state::State;
use place::Start;

pub use errors::{is_about as is_error, note as note_error};
pub use granted::{Directories, open_granted, preopen};
pub use wasi_01::wrap as wrap_module_functions;

/// The type by which a linker knows that [`View`] implements an interface.
pub struct Files;

impl HasData for Files {
    type Data<'a> = View<'a>;
}

/// What `wasi:filesystem` is implemented for.
pub struct View<'a> {
    /// Wasmtime's own.
    pub wasi: WasiFilesystemCtxView<'a>,
    /// Whether a call may block its thread.
    pub sequential: bool,
    /// The directories that the guest has instead of the root, and what reports a path that leads out of them.
    pub granted: Option<(&'a Directories, &'a Arc<Guard>)>,
}

/// Replaces `wasi:filesystem` of 0.2 and 0.3 in a linker.
pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    p2::bindings::filesystem::types::add_to_linker::<_, Files>(linker, State::files)?;
    p3::bindings::filesystem::types::add_to_linker::<_, Files>(linker, State::files)?;
    p2::bindings::filesystem::preopens::add_to_linker::<_, Files>(linker, State::files)?;
    p3::bindings::filesystem::preopens::add_to_linker::<_, Files>(linker, State::files)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl View<'_> {
    /// The directory that a path of the guest's begins at.
    fn start(&self, directory: &Resource<Descriptor>) -> io::Result<Start> {
        match self.wasi.table.get(directory) {
            Ok(Descriptor::Dir(dir)) => Ok(Start {
                dir: dir.clone(),
                sequential: self.sequential,
                granted: self.granted.map(|(_, guard)| guard.clone()),
            }),
            _ => Err(Errno::EBADF.into()),
        }
    }

    fn directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let Some((granted, _)) = self.granted else {
            return p2::bindings::filesystem::preopens::Host::get_directories(&mut self.wasi);
        };
        let push_one =
            |(dir, path): &(Dir, String)| Ok((push(self.wasi.table, dir.clone())?, path.clone()));
        granted.iter().map(push_one).collect()
    }
}

impl p2::bindings::filesystem::preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}

impl p3::bindings::filesystem::preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        self.directories()
    }
}

/// Puts a directory into a guest's table for one call. The caller must delete it.
fn push(table: &mut ResourceTable, directory: Dir) -> wasmtime::Result<Resource<Descriptor>> {
    Ok(table.push(Descriptor::Dir(directory))?)
}

/// The same descriptor, for a call that takes it by value.
fn lent(descriptor: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(descriptor.rep())
}
