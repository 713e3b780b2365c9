//! A guest's files: Wasmtime's own, with what a program in the container would see in two respects.
//!
//! Links: Wasmtime resolves a path within the directory that it starts from, and takes an absolute link, or one that leads
//! out of that directory, for an escape. The only directory that guests are given is the container's root, which is
//! the root of the guest's process as well (pivot_root(2)): what the kernel makes of a link there stays in it. So
//! a call that was refused is made once more, with what its path leads to ([`place`]). What is not refused costs no more.
//!
//! Errors: those that Wasmtime has no name for, EROFS and EXDEV among them, have their own in WASI ([`errors`]).

mod errors;
mod place;
mod wasi_01;
mod wasi_02;
mod wasi_03;

use std::io;

use nix::errno::Errno;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::filesystem::{Descriptor, Dir, WasiFilesystemCtxView};
use wasmtime_wasi::{p2, p3};

use crate::state::State;
use place::Start;

pub use errors::{is_told as is_error, note as note_error};
pub use wasi_01::wrap as wrap_module_functions;

/// Stands for [`View`] where a linker is told what implements an interface.
pub struct Files;

impl HasData for Files {
    type Data<'a> = View<'a>;
}

/// What `wasi:filesystem` is implemented for.
pub struct View<'a> {
    /// Wasmtime's own.
    pub wasi: WasiFilesystemCtxView<'a>,
    /// Whether a call may keep its thread waiting.
    pub sequential: bool,
}

/// Puts `wasi:filesystem` of 0.2 and 0.3 in the place of what a linker has of them.
pub fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    p2::bindings::filesystem::types::add_to_linker::<_, Files>(linker, State::files)?;
    p3::bindings::filesystem::types::add_to_linker::<_, Files>(linker, State::files)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl View<'_> {
    /// The directory that a path of the guest's begins at.
    fn start(&self, directory: &Resource<Descriptor>) -> io::Result<Start> {
        match self.wasi.table.get(directory) {
            Ok(Descriptor::Dir(dir)) => Ok(Start { dir: dir.clone(), sequential: self.sequential }),
            _ => Err(Errno::EBADF.into()),
        }
    }
}

/// Puts a directory into a guest's table until the guard's owner takes it out.
fn push(table: &mut ResourceTable, directory: Dir) -> wasmtime::Result<Resource<Descriptor>> {
    Ok(table.push(Descriptor::Dir(directory))?)
}

/// The same descriptor for another call.
fn lent(descriptor: &Resource<Descriptor>) -> Resource<Descriptor> {
    Resource::new_borrow(descriptor.rep())
}
