//! Loads compiled code: the one place that believes in it.

use std::fs::File;
use std::io::{Read, Seek};

use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// Compiled code, as it was serialized.
#[derive(Debug)]
pub struct Code(Vec<u8>);

impl Code {
    /// Reads the file the compile worker wrote.
    pub fn read(mut file: File) -> std::io::Result<Code> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(Code(bytes))
    }

    /// As a component.
    #[allow(unsafe_code)]
    pub fn component(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes are what `Runtime::compile` of this very binary serialized, handed over in a
        // sealed file that no image and no guest can write. Whoever subverted the compile worker gains
        // here what the guest may do: this process is already confined as the container.
        unsafe { Component::deserialize(engine, &self.0) }
    }

    /// As a core module.
    #[allow(unsafe_code)]
    pub fn module(&self, engine: &Engine) -> wasmtime::Result<Module> {
        // SAFETY: as in `component`.
        unsafe { Module::deserialize(engine, &self.0) }
    }
}
