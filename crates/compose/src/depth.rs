//! Measures how deeply components and modules are nested in components, and types in types.
//!
//! `wasmparser` follows nested types by recursion before it checks anything, and so does every other reader of a
//! component. A hostile file could therefore exhaust the stack. This module only keeps a list of what is open.

use wasmparser::{
    BinaryReader, BinaryReaderError, ComponentType, ComponentTypeDeclaration, Parser, Payload,
};

use crate::limits::DEPTH;

/// Opening bytes of the type of a component and of an instance (component model, Binary.md, "Type Definitions").
const OPENING: [u8; 2] = [0x41, 0x42];

/// Opening byte of a type declaration inside such a type.
const TYPE: u8 = 0x01;

/// Returns whether components or types are nested more deeply than the limit. A file that is not valid WebAssembly is
/// checked up to the first error.
pub fn is_too_deep(wasm: &[u8]) -> bool {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(wasm).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentTypeSection(section) => {
                let section = wasm.get(section.range()).unwrap_or_default();
                // Other readers report a section that cannot be read. They get no further than this one.
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

/// A list that has not been read to its end.
struct Open {
    left: u32,
    is_of_declarations: bool,
}

/// Checks the types in `section`, the content of a type section: their number, then the types.
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
