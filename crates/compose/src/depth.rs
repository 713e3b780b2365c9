//! How deep things lie in each other: components and modules in components, and types in types.
//!
//! Whoever reads a component follows types of types by recursion, and `wasmparser` does before it checks anything: a
//! stack is soon used up by a file that is made for it. Here is only a list of what is open.

use wasmparser::{
    BinaryReader, BinaryReaderError, ComponentType, ComponentTypeDeclaration, Parser, Payload,
};

use crate::limits::DEPTH;

/// The types of a component and of an instance (component model, Binary.md, "Type Definitions").
const OPENING: [u8; 2] = [0x41, 0x42];

/// The declaration of a type in them.
const TYPE: u8 = 0x01;

/// Whether components lie in each other, or types in types, deeper than is looked into. Of what is no WebAssembly, as
/// far as it is.
pub fn is_too_deep(wasm: &[u8]) -> bool {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentTypeSection(section) => {
                let section = wasm.get(section.range()).unwrap_or_default();
                // What cannot be read is for others to tell: they come no further than this.
                if are_types_too_deep(section).unwrap_or_default() {
                    return true;
                }
            }
            _ => {}
        }
        if depth > DEPTH {
            return true;
        }
    }
    false
}

/// What of a list is still to be read.
struct Open {
    left: u32,
    is_of_declarations: bool,
}

/// `section` is the content of a section of types: their number, and the types.
fn are_types_too_deep(section: &[u8]) -> Result<bool, BinaryReaderError> {
    let mut reader = BinaryReader::new(section, 0);
    let mut open = vec![Open { left: reader.read_var_u32()?, is_of_declarations: false }];
    while let Some(list) = open.last_mut() {
        if list.left == 0 {
            open.pop();
            continue;
        }
        list.left -= 1;
        if list.is_of_declarations {
            if reader.clone().read_u8()? != TYPE {
                reader.read::<ComponentTypeDeclaration<'_>>()?;
                continue;
            }
            reader.read_u8()?;
        }
        if !OPENING.contains(&reader.clone().read_u8()?) {
            reader.read::<ComponentType<'_>>()?;
            continue;
        }
        if open.len() > DEPTH {
            return Ok(true);
        }
        reader.read_u8()?;
        open.push(Open { left: reader.read_var_u32()?, is_of_declarations: true });
    }
    Ok(false)
}
