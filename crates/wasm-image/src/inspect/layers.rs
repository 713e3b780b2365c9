//! Reads one layer of files, unpacked.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use flate2::bufread::MultiGzDecoder;
use oci_spec::image::Descriptor;
use sha2::{Digest, Sha256};

use crate::errors::within;
use crate::limits;

/// Magic bytes of compressed content: RFC 1952, section 2.3.1, and RFC 8878, section 3.1.1.
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// A layer of files on disk.
#[derive(Debug)]
pub struct Layer {
    path: PathBuf,
    media_type: String,
    title: String,
}

/// A layer that is being read.
pub struct Opened {
    /// The layer and its image, for errors.
    pub title: String,
    tar: Box<dyn Read>,
    limit: u64,
}

enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Layer {
    /// Makes the layer of a descriptor whose content is in a file.
    pub fn new(layer: &Descriptor, path: PathBuf, image: &str) -> Self {
        let title = format!("{} of {image}", layer.digest());
        Self { path, media_type: layer.media_type().to_string(), title }
    }

    /// Opens the layer, so that it can be unpacked to at most `limit` bytes.
    pub fn open(&self, limit: u64) -> Result<Opened> {
        let cannot_read = || format!("cannot read {}", self.title);
        let mut file = BufReader::new(File::open(&self.path).with_context(cannot_read)?);
        let head = file.fill_buf().with_context(cannot_read)?;
        let tar: Box<dyn Read> = match self.compression(head)? {
            Compression::None => Box::new(file),
            Compression::Gzip => Box::new(MultiGzDecoder::new(file)),
            Compression::Zstd => {
                Box::new(zstd::Decoder::with_buffer(file).with_context(cannot_read)?)
            }
        };
        Ok(Opened { title: self.title.clone(), tar, limit })
    }

    /// Returns the compression by the media type (containerd, `images.DiffCompression`), or by the first bytes if the
    /// type does not state it.
    fn compression(&self, head: &[u8]) -> Result<Compression> {
        let (base, suffix) = match self.media_type.rsplit_once('+') {
            Some((base, suffix)) => (base, suffix),
            None => (self.media_type.as_str(), ""),
        };
        let is_docker = base.starts_with("application/vnd.docker.");
        Ok(match suffix {
            "gzip" => Compression::Gzip,
            "zstd" => Compression::Zstd,
            "" if base.ends_with(".tar.gzip") => Compression::Gzip,
            "" if base.ends_with(".tar.zstd") => Compression::Zstd,
            "" if is_docker && head.starts_with(GZIP_MAGIC) => Compression::Gzip,
            "" if is_docker && head.starts_with(ZSTD_MAGIC) => Compression::Zstd,
            "" if base.ends_with(".tar") => Compression::None,
            _ => bail!("{}: a layer of type {} cannot be unpacked", self.title, self.media_type),
        })
    }

    /// Returns the digest of the unpacked layer.
    pub fn diff_id(&self) -> Result<String> {
        let mut hash = Sha256::new();
        let opened = self.open(limits::UNPACKED_BYTES)?;
        let cannot_read = format!("cannot read {}", self.title);
        opened
            .read(|tar| {
                let mut buffer = vec![0; 64 << 10];
                loop {
                    match tar.read(&mut buffer)? {
                        0 => return Ok(()),
                        count => hash.update(&buffer[..count]),
                    }
                }
            })
            .context(cannot_read)?;
        Ok(format!("sha256:{}", hex::encode(hash.finalize())))
    }
}

impl Opened {
    /// Reads the layer with `read`, and returns how many bytes of the limit are left.
    ///
    /// # Errors
    /// [`TooLarge`](crate::errors::Error::TooLarge), and the errors of `read`.
    pub fn read(self, read: impl FnOnce(&mut dyn Read) -> Result<()>) -> Result<u64> {
        let mut limited = self.tar.take(self.limit + 1);
        let done = read(&mut limited);
        let left = limited.limit();
        let before = limits::UNPACKED_BYTES - self.limit;
        let sum = before + (self.limit + 1 - left);
        within(limits::UNPACKED_BYTES, || format!("{}, unpacked,", self.title), sum)?;
        done?;
        Ok(left.saturating_sub(1))
    }
}
