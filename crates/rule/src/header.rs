//! Recognises a file by its first bytes, and never by its name alone.

use oci_spec::image::Descriptor;

use crate::Refusal;
use crate::entrypoint::has_wasm_name;
use crate::error::within_limit;

/// Number of bytes that are read to recognise a file. Binary formats need 8. A text may begin with a comment, and the
/// longest licence in common use, Apache's, has 11 KiB.
pub const HEAD_BYTES: usize = 16 << 10;

/// The beginning of a file.
#[derive(Debug, Clone)]
pub struct Head {
    /// The first bytes, at most [`HEAD_BYTES`].
    pub bytes: Vec<u8>,
    /// Size of the whole file, in bytes.
    pub size: u64,
}

/// How a file can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Wasm or its text form, which is a guest.
    Wasm,
    /// Anything else, which the kernel executes.
    Program,
}

/// The format that the first bytes indicate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Header {
    /// A module or component.
    Wasm,
    /// The text form of one.
    Text,
    /// Native code made by Wasmtime.
    Precompiled,
    /// Wasm that ends before its header is complete.
    Truncated,
    /// Anything else.
    Other,
}

/// Magic bytes of a module and of a component (WebAssembly core specification, "Modules" of the binary format).
const WASM_MAGIC: &[u8] = b"\0asm";
/// Length of the magic and the version. Half of the version is the layer field.
const WASM_HEADER_BYTES: usize = 8;

/// Magic bytes of a Zstandard frame (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

const ELF_MAGIC: &[u8] = b"\x7fELF";
/// Offset of the OS ABI in an ELF header (elf(5), `EI_OSABI`).
const ELF_OS_ABI: usize = 7;
/// OS ABI of code that Wasmtime compiles, for this machine or for Pulley (`ELFOSABI_WASMTIME` of wasmtime-environ).
const OS_ABI_WASMTIME: u8 = 200;

/// Recognises the file at a path of the container.
///
/// # Errors
/// [`Refusal::Precompiled`]; [`Refusal::NotWasm`] if the name says wasm but the content is not; [`Refusal::TooLarge`].
pub fn recognise(name: &str, head: &Head) -> Result<Kind, Refusal> {
    match classify(&head.bytes) {
        Header::Other if !has_wasm_name(name) => Ok(Kind::Program),
        header => accept(name, head, header).map(|()| Kind::Wasm),
    }
}

/// Checks the beginning of a layer whose media type says wasm or compressed wasm. The compile worker checks the
/// compressed content when it unpacks it.
///
/// # Errors
/// As for a file whose name says wasm; [`Refusal::NotCompressed`].
pub fn check_layer(layer: &Descriptor, head: &Head) -> Result<(), Refusal> {
    let name = format!("layer {}", layer.digest());
    if layer.media_type().as_ref() != provided::ZSTD_LAYER {
        return accept(&name, head, classify(&head.bytes));
    }
    match head.bytes.starts_with(ZSTD_MAGIC) {
        true => Ok(()),
        false => Err(Refusal::NotCompressed { name, found: describe(&head.bytes) }),
    }
}

fn accept(name: &str, head: &Head, header: Header) -> Result<(), Refusal> {
    match header {
        Header::Wasm | Header::Text => within_limit(name, head.size),
        Header::Precompiled => Err(Refusal::Precompiled { name: name.to_owned() }),
        Header::Truncated | Header::Other => {
            Err(Refusal::NotWasm { name: name.to_owned(), found: describe(&head.bytes) })
        }
    }
}

fn classify(head: &[u8]) -> Header {
    match head {
        _ if head.starts_with(WASM_MAGIC) && head.len() < WASM_HEADER_BYTES => Header::Truncated,
        _ if head.starts_with(WASM_MAGIC) => Header::Wasm,
        _ if !head.starts_with(ELF_MAGIC) && is_text(head) => Header::Text,
        _ if !head.starts_with(ELF_MAGIC) => Header::Other,
        _ if head.get(ELF_OS_ABI) == Some(&OS_ABI_WASMTIME) => Header::Precompiled,
        _ => Header::Other,
    }
}

/// Returns whether a text begins with `(module` or `(component`, after white space and comments (WebAssembly core
/// specification, "White Space" of the text format).
fn is_text(text: &[u8]) -> bool {
    let Some(b'(') = skip_blank(text).first() else {
        return false;
    };
    let word = skip_blank(&skip_blank(text)[1..]);
    let end = word.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(word.len());
    matches!(&word[..end], b"module" | b"component")
}

fn skip_blank(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        text = match text {
            [b';', b';', comment @ ..] => {
                let end = comment.iter().position(|byte| *byte == b'\n');
                end.map_or(&[], |end| &comment[end..])
            }
            [b'(', b';', comment @ ..] => skip_block(comment),
            _ => return text,
        };
    }
}

/// Returns what follows a block comment, which may contain other block comments.
fn skip_block(mut comment: &[u8]) -> &[u8] {
    let mut depth = 1;
    while depth > 0 {
        (depth, comment) = match comment {
            [b'(', b';', rest @ ..] => (depth + 1, rest),
            [b';', b')', rest @ ..] => (depth - 1, rest),
            [_, rest @ ..] => (depth, rest),
            [] => return &[],
        };
    }
    comment
}

fn describe(head: &[u8]) -> String {
    match head {
        [] => "is empty".into(),
        _ if head.len() < WASM_HEADER_BYTES => format!("ends after {} bytes", head.len()),
        _ if head.starts_with(ELF_MAGIC) => "is a native program or library (ELF)".into(),
        _ => format!("begins with \"{}\"", head[..WASM_HEADER_BYTES].escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::image::{Digest, MediaType};

    use super::*;

    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const NATIVE: &[u8] = b"\x7fELF\x02\x01\x01\0\0\0\0\0";
    const PRECOMPILED: &[u8] = b"\x7fELF\x02\x01\x01\xc8\0\0\0\0";

    fn head(content: &[u8]) -> Head {
        Head { bytes: content.into(), size: content.len() as u64 }
    }

    fn refusal(name: &str, content: &[u8]) -> String {
        recognise(name, &head(content)).unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_known_by_its_first_bytes() {
        let cases: [(&[u8], Header); 18] = [
            (MODULE, Header::Wasm),
            (b"\0asm\x0d\0\x01\0", Header::Wasm),
            (b"\0asm\x01\0\0", Header::Truncated),
            (b"\0asm", Header::Truncated),
            (b"", Header::Other),
            (b"  (module)", Header::Text),
            (b"(component", Header::Text),
            (b"(module$name)", Header::Text),
            (b";; licence\n(; block (; nested ;) ;)\t( component)", Header::Text),
            (b"( ;; why\n module)", Header::Text),
            (b"(modular)", Header::Other),
            (b"(; never closed (module)", Header::Other),
            (b";; only a comment (module)", Header::Other),
            (b"#!/bin/sh\n(module)", Header::Other),
            (b"(", Header::Other),
            (NATIVE, Header::Other),
            (PRECOMPILED, Header::Precompiled),
            (b"\x7fELF\x02\x01\x01", Header::Other),
        ];
        for (bytes, header) in cases {
            assert_eq!(classify(bytes), header, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn wasm_is_a_guest_and_anything_else_a_program() {
        for (name, content, kind) in [
            ("/app.wasm", MODULE, Kind::Wasm),
            ("/app", MODULE, Kind::Wasm),
            ("/app", b"(module)", Kind::Wasm),
            ("/app", NATIVE, Kind::Program),
            ("/app", b"#!/bin/sh\n", Kind::Program),
            ("/app", b"", Kind::Program),
        ] {
            assert_eq!(recognise(name, &head(content)).unwrap(), kind, "{name}");
        }
    }

    #[test]
    fn a_name_that_says_wasm_over_something_else_is_refused_with_what_it_is() {
        for (content, found) in [
            (&b""[..], "it is empty"),
            (b"\0asm\x01", "it ends after 5 bytes"),
            (NATIVE, "it is a native program"),
            (b"<!DOCTYPE html>", "it begins with \"<!DOCTYP\""),
        ] {
            for name in ["/a.wasm", "/a.wat", "/a.cwasm"] {
                let error = refusal(name, content);
                assert!(error.contains(found) && error.contains(name), "{error}");
            }
        }
        assert!(refusal("/no-ending", b"\0asm\x01").contains("ends after 5 bytes"));
    }

    #[test]
    fn precompiled_code_is_refused_under_any_name() {
        for name in ["/app.wasm", "/app.cwasm", "/app"] {
            let error = recognise(name, &head(PRECOMPILED)).unwrap_err();
            assert!(matches!(error, Refusal::Precompiled { .. }), "{error}");
        }
    }

    #[test]
    fn wasm_beyond_the_limit_is_refused_and_a_program_of_any_size_is_not() {
        let large = |content| Head { size: provided::WASM_BYTES + 1, ..head(content) };
        let error = recognise("/app", &large(MODULE)).unwrap_err();
        assert!(matches!(error, Refusal::TooLarge { .. }), "{error}");
        assert_eq!(recognise("/app", &large(NATIVE)).unwrap(), Kind::Program);
    }

    fn layer_refusal(media_type: &str, content: &[u8]) -> Option<String> {
        let digest = format!("sha256:{}", "0".repeat(64)).parse::<Digest>().unwrap();
        let layer = Descriptor::new(MediaType::from(media_type), content.len() as u64, digest);
        check_layer(&layer, &head(content)).err().map(|error| error.to_string())
    }

    #[test]
    fn a_layer_must_be_wasm_whatever_it_is_called() {
        let refusal = |content| layer_refusal("application/wasm", content);
        assert_eq!(refusal(b"(module)"), None);
        let error = refusal(b"#!/bin/sh\n").unwrap();
        assert!(error.starts_with("layer sha256:00") && error.contains("is not wasm"), "{error}");
    }

    #[test]
    fn a_layer_that_says_it_is_compressed_has_to_begin_so() {
        let refusal = |content| layer_refusal(provided::ZSTD_LAYER, content);
        assert_eq!(refusal(b"\x28\xb5\x2f\xfd\x20"), None);
        for content in [MODULE, PRECOMPILED, b"", b"\x28\xb5"] {
            let error = refusal(content).unwrap();
            assert!(error.contains("layer sha256:0") && error.contains("Zstandard"), "{error}");
        }
    }
}
