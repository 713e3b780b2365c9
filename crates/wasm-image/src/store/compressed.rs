//! Layers that are compressed with Zstandard (RFC 8878).

use std::io::Read;

use anyhow::{Context, Result, ensure};

/// Suffix of the media type of such a layer (RFC 6838, section 4.2.8).
pub const SUFFIX: &str = "+zstd";

/// Compression level. It is the highest that needs no extra memory to unpack. A component of 40 MB takes half a minute.
const LEVEL: i32 = 19;

/// Compresses a layer. The same input gives the same bytes.
pub fn zstd(bytes: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(bytes, LEVEL).context("cannot compress a layer")
}

/// Returns the uncompressed layer. Returns `bytes` if its media type does not say that it is compressed.
///
/// # Errors
/// Fails for content that is not Zstandard, and for more than `limit` bytes.
pub fn unpacked(media_type: &str, bytes: Vec<u8>, limit: u64) -> Result<Vec<u8>> {
    if !media_type.ends_with(SUFFIX) {
        return Ok(bytes);
    }
    let mut found = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(bytes.as_slice())?;
    let read = decoder.take(limit + 1).read_to_end(&mut found);
    read.with_context(|| format!("it does not match its type, {media_type}"))?;
    ensure!(
        found.len() as u64 <= limit,
        "it unpacks to more than {limit} bytes, which is the limit"
    );
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compressed_is_unpacked_up_to_a_limit() {
        let bytes = vec![7; 100_000];
        let small = zstd(&bytes).unwrap();
        assert!(small.len() < 100 && small == zstd(&bytes).unwrap());
        let unpacked = |limit| unpacked("application/wasm+zstd", small.clone(), limit);
        assert!(unpacked(100_000).unwrap() == bytes);
        let error = unpacked(99_999).unwrap_err().to_string();
        assert!(error.contains("more than 99999 bytes"), "{error}");
    }

    #[test]
    fn what_its_type_does_not_call_compressed_is_left_alone_and_what_it_does_has_to_be() {
        let read = |media_type: &str| unpacked(media_type, b"hello".to_vec(), 10);
        assert_eq!(read("application/wasm").unwrap(), b"hello");
        let error = read("application/wasm+zstd").unwrap_err().to_string();
        assert!(error.contains("does not match its type, application/wasm+zstd"), "{error}");
    }
}
