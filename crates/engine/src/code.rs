//! Loads compiled code. Only this module trusts it.
//!
//! Code is mapped, so that all containers of a file share its pages. Wasmtime maps files of modules, but maps
//! components only by path, and the container's root has neither the file nor `/proc`. So this module maps the file and
//! passes the mapping to Wasmtime ([`Component::deserialize_raw`]), with [`Mapped`] to make its text executable. The
//! code is copied if files may not be executed from there (a `noexec` mount, SELinux).

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect};
use nix::unistd::{SysconfVar, sysconf};
use wasmtime::component::Component;
use wasmtime::error::Context;
use wasmtime::{CustomCodeMemory, Engine, Module};

use crate::World;

/// Page size if sysconf(3) does not return it: the largest one of Linux's usual targets.
pub const LARGEST_PAGE: usize = 64 << 10;

/// Returns the bytes of a page.
pub fn page_size() -> Option<usize> {
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    page.and_then(|page| usize::try_from(page).ok())
}

/// Loaded code.
#[derive(Clone)]
pub enum Guest {
    /// A core module.
    Module(Module),
    /// A component.
    Component(Component),
}

/// Compiled code, which stays mapped read-only until the process ends.
#[derive(Debug)]
pub struct Code(NonNull<[u8]>);

impl Code {
    /// Maps a file that the compile worker wrote.
    ///
    /// # Errors
    /// Those of fstat(2) and mmap(2). [`io::ErrorKind::UnexpectedEof`] if the file is empty.
    pub fn map(file: &File) -> io::Result<Code> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let length = NonZeroUsize::new(bytes).ok_or(io::ErrorKind::UnexpectedEof)?;
        // SAFETY: a new mapping at an address that the kernel chooses replaces no other mapping.
        let start =
            unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, file, 0)? };
        Ok(Code(NonNull::slice_from_raw_parts(start.cast(), bytes)))
    }

    /// Loads the code as a component.
    pub fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: `Runtime::compile` of this binary serialized the bytes, into a file that neither an image nor a guest can write.
        // They are mapped read-only and never unmapped. An attacker who took over the compile worker gains here only what the guest
        // may do, because this process is already confined as the container.
        let mapped = unsafe { Component::deserialize_raw(engine, self.0) };
        // SAFETY: the same bytes, which are copied.
        or_copied(mapped, || unsafe { Component::deserialize(engine, self.0.as_ref()) })
    }

    /// Loads the code as what it was compiled from.
    pub fn load(&self, engine: &Engine, world: World) -> wasmtime::Result<Guest> {
        Ok(match world {
            World::Module => Guest::Module(self.module(engine)?),
            _ => Guest::Component(self.component(engine)?),
        })
    }

    /// Loads the code as a core module.
    fn module(&self, engine: &Engine) -> wasmtime::Result<Module> {
        // SAFETY: as in `component`.
        let mapped = unsafe { Module::deserialize_raw(engine, self.0) };
        // SAFETY: the same bytes, which are copied.
        or_copied(mapped, || unsafe { Module::deserialize(engine, self.0.as_ref()) })
    }
}

/// Makes code executable that Wasmtime did not map itself. Wasmtime leaves that to the owner of the mapping.
///
/// The text of an artefact begins on a page of its own. The kernel synchronizes instruction caches when it makes a page
/// executable, and the process has no second thread yet.
#[derive(Debug)]
pub struct Mapped;

impl CustomCodeMemory for Mapped {
    fn required_alignment(&self) -> usize {
        page_size().unwrap_or(LARGEST_PAGE)
    }

    fn publish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        protect(start, length, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC)
    }

    fn unpublish_executable(&self, start: *const u8, length: usize) -> wasmtime::Result<()> {
        protect(start, length, ProtFlags::PROT_READ)
    }
}

fn protect(start: *const u8, length: usize, protection: ProtFlags) -> wasmtime::Result<()> {
    let start = NonNull::new(start.cast_mut().cast::<c_void>())
        .ok_or_else(|| wasmtime::format_err!("compiled code at address zero"))?;
    // SAFETY: Wasmtime calls this with the text of code that it holds. Nothing writes there while it is executable, and nothing
    // executes it when it no longer is.
    unsafe { mprotect(start, length, protection) }.context("make compiled code executable")
}

/// Returns the mapped code, or a copy of it if the mapping cannot be made executable.
fn or_copied<T>(
    mapped: wasmtime::Result<T>,
    copy: impl FnOnce() -> wasmtime::Result<T>,
) -> wasmtime::Result<T> {
    match mapped {
        Err(error) if is_not_executable(&error) => copy(),
        other => other,
    }
}

/// Returns whether [`protect`] failed. Code of another engine is not copied, because a copy would fail in the same way.
fn is_not_executable(error: &wasmtime::Error) -> bool {
    error.chain().any(|cause| cause.is::<nix::Error>())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use wasmtime::{Instance, Store};

    use super::*;
    use crate::{Compiled, Layer, Runtime};

    /// Returns a file in memory that can no longer be changed, as containers get it.
    fn sealed(code: &[u8]) -> File {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let mut file = File::from(memfd_create(c"engine-test-code", flags).expect("a file"));
        file.write_all(code).expect("written");
        let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals)).expect("sealed");
        file
    }

    #[test]
    fn a_sealed_file_is_executed_in_place() {
        let runtime = Runtime::new().expect("a runtime");
        let wasm = br#"(module (func (export "_start")))"#.to_vec();
        let module = Layer { name: "app".into(), wasm };
        let Compiled { code, .. } =
            runtime.compile(&[module], None, &grants::CodeSettings::default()).expect("compiles");
        let file = sealed(&code);

        let module = Code::map(&file).expect("mapped").module(&runtime.engine).expect("loads");
        let mut store = Store::new(&runtime.engine, ());
        let instance = Instance::new(&mut store, &module, &[]).expect("instantiates");
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("is there");
        start.call(&mut store, ()).expect("runs");

        let maps = std::fs::read_to_string("/proc/self/maps").expect("maps");
        let executable = |line: &str| line.contains("engine-test-code") && line.contains("r-xp");
        assert!(maps.lines().any(executable), "{maps}");
    }

    #[test]
    fn a_mapping_that_may_not_be_executed_is_told_from_other_code() {
        let refused = Err::<(), _>(nix::Error::EACCES).context("make compiled code executable");
        assert!(is_not_executable(&refused.context("load").expect_err("refused")));
        assert!(!is_not_executable(&wasmtime::format_err!("of another engine")));
    }

    #[test]
    fn what_is_not_compiled_code_is_refused() {
        let runtime = Runtime::new().expect("a runtime");
        assert!(Code::map(&sealed(b"")).is_err());
        let code = Code::map(&sealed(b"no code")).expect("mapped");
        assert!(code.module(&runtime.engine).is_err());
        assert!(code.component(&runtime.engine).is_err());
    }
}
