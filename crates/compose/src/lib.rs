//! Composes several components into one. The first is the application; the others satisfy its imports and each other's.
//!
//! Read in this order: [`compose`] here, `depth` (what is refused before it is read), `read` (what a component imports
//! and exports), `choose` (which export satisfies which import), `wire` (the composition itself, by `wac-graph`),
//! `error`. The shim's compile worker and the tools for CI make the same composition of the same components.
//!
//! This crate does not run or compile anything, and does not know where components come from. It bounds how deep and
//! how wide they may be. A caller with components of unknown origin must bound memory and time.
#![forbid(unsafe_code)]

mod choose;
mod depth;
mod error;
mod limits;
mod read;
mod wire;

use std::collections::BTreeSet;

use provided::Interface;

pub use choose::Wire;
pub use depth::is_too_deep;
pub use error::{Error, Missing};

/// A component to compose, in its binary form.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    /// Name of the component in errors: a file name or a digest.
    pub name: &'a str,
    /// The component.
    pub wasm: &'a [u8],
}

/// The result of a composition.
#[derive(Debug)]
pub struct Composed {
    /// One component that imports what the host provides, and exports what the application exports.
    pub wasm: Vec<u8>,
    /// The export that satisfies each import. Components are given by their position.
    pub wires: Vec<Wire>,
    /// Positions of the components that no other component imports from. The composition leaves them out.
    pub unused: Vec<usize>,
}

/// Composes components. The first is the application.
///
/// # Errors
/// Each [`Error`] names the components and the interface with its version.
pub fn compose(layers: &[Layer<'_>], host: &[Interface]) -> Result<Composed, Error> {
    fit(layers)?;
    let mut parts = read::Parts::read(layers)?;
    let wires = choose::choose(&parts.names, host)?;
    let wasm = wire::put_together(&mut parts, &wires)?;
    let used: BTreeSet<usize> = wires.iter().map(|it| it.exporter).chain([0]).collect();
    let unused = (0..layers.len()).filter(|it| !used.contains(it)).collect();
    Ok(Composed { wasm, wires, unused })
}

fn fit(layers: &[Layer<'_>]) -> Result<(), Error> {
    let bytes = layers.iter().map(|it| it.wasm.len() as u64).sum();
    match layers.len() {
        0 => Err(Error::Empty),
        count if count > provided::LAYERS => Err(Error::Many(count)),
        _ if bytes > provided::WASM_BYTES => Err(Error::Large(bytes)),
        _ => Ok(()),
    }
}
