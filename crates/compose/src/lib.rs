//! Several components become one: the first is the application, and the others satisfy its imports, and each other's.
//!
//! Read in this order: [`compose`] here; `depth` (what is not read at all), `read` (what a component imports and exports), `choose` (who satisfies what),
//! `wire` (putting it together, by `wac-graph`), `error`. The shim's compile worker and the tools of CI make the same
//! composition of the same components.
//!
//! Nothing here runs or compiles anything, or knows where components come from. Whoever gives components of unknown
//! origin bounds memory and time; how deep and how wide they may be is bounded here.
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
    /// What it is called in errors: a file's name or a digest.
    pub name: &'a str,
    /// The component.
    pub wasm: &'a [u8],
}

/// What the components became.
#[derive(Debug)]
pub struct Composed {
    /// One component: it imports what the host has, and exports what the application does.
    pub wasm: Vec<u8>,
    /// Which import was satisfied by which export; components by their position.
    pub wires: Vec<Wire>,
    /// The positions of the components that nobody needs: they are not in it.
    pub unused: Vec<usize>,
}

/// Composes components, of which the first is the application.
///
/// # Errors
/// See [`Error`]: each names the components and the interface, with its version.
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
