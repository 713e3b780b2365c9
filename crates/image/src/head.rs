//! The first bytes of a file.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rule::{HEAD_BYTES, Head};

/// Reads the bytes by which a file is recognised. Does not change the file's position.
pub fn read(file: &File) -> io::Result<Head> {
    let mut bytes = vec![0; HEAD_BYTES];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(Head { bytes, size: file.metadata()?.len() })
}
