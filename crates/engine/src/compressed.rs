//! Layers that are compressed with Zstandard (RFC 8878). The worker unpacks them here, because the shim reads only the
//! first bytes of a guest.

use std::io::Read;

use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use crate::Error;

/// How a frame begins (RFC 8878, section 3.1.1).
const MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Whether a layer is compressed.
pub fn is_compressed(layer: &[u8]) -> bool {
    layer.starts_with(MAGIC)
}

/// What a layer is when it is not compressed.
///
/// # Errors
/// [`Error::Compressed`] for one that is damaged, or has more than `limit` bytes then.
pub fn unpacked(mut layer: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let mut wasm = Vec::new();
    while !layer.is_empty() {
        let frame = match StreamingDecoder::new(&mut layer) {
            Ok(frame) => frame,
            Err(error) => {
                // Frames of other programs may lie between (section 3.1.2).
                let length = foreign(&error).ok_or_else(|| damaged(&error))?;
                layer = layer.get(length..).ok_or_else(|| damaged(&error))?;
                continue;
            }
        };
        let left = limit - wasm.len();
        let read = frame.take(left as u64 + 1).read_to_end(&mut wasm);
        read.map_err(|error| damaged(&error))?;
        if wasm.len() > limit {
            let reason = format!("it has more than the {limit} bytes allowed");
            return Err(Error::Compressed(reason));
        }
    }
    Ok(wasm)
}

/// How long a frame of another program is.
fn foreign(error: &FrameDecoderError) -> Option<usize> {
    match error {
        FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
            length, ..
        }) => usize::try_from(*length).ok(),
        _ => None,
    }
}

fn damaged(error: &impl ToString) -> Error {
    Error::Compressed(text::on_one_line(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "aaaa" as the `zstd` program compresses it, in one block as it is.
    const FRAME: &[u8] = b"\x28\xb5\x2f\xfd\x20\x04\x21\x00\x00aaaa";

    /// A block that says: a thousand million times the same byte, in parts of 128 KiB.
    fn bomb() -> Vec<u8> {
        let block = |is_last: u32| {
            let header = (128 << 10) << 3 | 1 << 1 | is_last;
            [&header.to_le_bytes()[..3], b"a"].concat()
        };
        // No size of the content, a window of 128 KiB.
        let mut frame = [MAGIC, b"\x00\x38"].concat();
        (0..8000).for_each(|_| frame.extend(block(0)));
        frame.extend(block(1));
        frame
    }

    #[test]
    fn frames_follow_each_other_and_those_of_others_are_passed_over() {
        assert_eq!(unpacked(FRAME, 4).unwrap(), b"aaaa");
        let foreign = b"\x50\x2a\x4d\x18\x03\x00\x00\x00xyz";
        let several = [FRAME, foreign, FRAME].concat();
        assert_eq!(unpacked(&several, 8).unwrap(), b"aaaaaaaa");
    }

    #[test]
    fn what_is_damaged_or_unpacks_to_too_much_is_refused() {
        let reason = |layer: &[u8]| unpacked(layer, 1 << 20).unwrap_err().to_string();
        assert!(unpacked(FRAME, 3).is_err());
        assert!(bomb().len() < 40_000);
        assert!(reason(&bomb()).contains("more than the 1048576 bytes allowed"));
        for length in 1..FRAME.len() {
            assert!(unpacked(&FRAME[..length], 10).is_err(), "{length}");
        }
        assert!(unpacked(b"\x50\x2a\x4d\x18\xff\xff\xff\xffx", 10).is_err());
    }
}
