//! A layout in one tar file, as `ctr image import`, `docker load` and `skopeo` accept it. It is compressed if its name
//! says so.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use oci_spec::image::{Descriptor, MediaType, Sha256Digest};
use tar::{Builder, Entry, Header};

use super::blob;
use super::layout::Layout;
use super::output::Output;
use crate::errors::{unreadable, within};
use crate::limits;

/// Magic bytes of a gzipped file (RFC 1952, section 2.3.1).
const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];

/// Endings of an archive's name. The first is for archives without compression.
const ENDINGS: [&str; 3] = [".tar", ".tar.gz", ".tgz"];

/// Returns whether a name is that of an archive.
pub fn is_named_so(path: &Path) -> bool {
    ending(path).is_some()
}

fn ending(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    ENDINGS.into_iter().find(|it| name.ends_with(it))
}

/// Writes the blobs and the index of a layout as an archive. The same layout gives the same bytes.
pub fn pack(layout: &Layout, archive: &Path) -> Result<()> {
    let mut output = Output::create(archive)?;
    let packed = match ending(archive) {
        None | Some(".tar") => write_tar(layout, &mut output),
        Some(_) => {
            // The header has no name and no time.
            let mut gzip = GzEncoder::new(&mut output, Compression::default());
            write_tar(layout, &mut gzip).and_then(|()| Ok(gzip.finish().map(drop)?))
        }
    };
    packed.with_context(|| format!("cannot write {}", archive.display()))?;
    output.finish()
}

fn write_tar(layout: &Layout, output: &mut impl Write) -> Result<()> {
    let mut tar = Builder::new(output);
    for path in files(layout)? {
        append(&mut tar, &path, &layout.directory().join(&path))?;
    }
    tar.finish()?;
    Ok(())
}

/// Returns the files of a layout, in the archive's order.
fn files(layout: &Layout) -> Result<Vec<PathBuf>> {
    let blobs = Path::new("blobs/sha256");
    let mut names = Vec::new();
    for entry in layout.directory().join(blobs).read_dir()? {
        names.push(blobs.join(entry?.file_name()));
    }
    names.sort();
    names.splice(0..0, ["oci-layout", "index.json"].map(PathBuf::from));
    Ok(names)
}

fn append(tar: &mut Builder<impl Write>, path: &Path, file: &Path) -> Result<()> {
    let file = File::open(file)?;
    let mut header = Header::new_gnu();
    header.set_size(file.metadata()?.len());
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, path, file)?;
    Ok(())
}

/// Unpacks an archive into a layout in an empty directory.
///
/// # Errors
/// [`Error::NotFound`](crate::errors::Error::NotFound) if the file does not exist;
/// [`Error::Digest`](crate::errors::Error::Digest) for a blob that does not match its name; errors for entries that no
/// layout has.
pub fn unpack(archive: &Path, directory: &Path) -> Result<Layout> {
    let title = archive.display().to_string();
    let file = File::open(archive).map_err(|error| unreadable(archive, error))?;
    let mut layout = Layout::create(directory)?;
    layout.title = title.clone();
    let damaged = || format!("{title} is not a tar archive with an OCI image layout");
    let mut tar = tar::Archive::new(unpacked(file).with_context(damaged)?);
    let mut index = false;
    for (count, entry) in tar.entries().with_context(damaged)?.enumerate() {
        within(limits::ENTRIES as u64, || format!("the list of entries of {title}"), count as u64)?;
        index |= unpack_entry(&layout, entry.with_context(damaged)?).with_context(damaged)?;
    }
    match index {
        true => Ok(layout),
        false => bail!("{}: it has no index.json", damaged()),
    }
}

/// Returns the tar, which may be compressed whatever its name is.
fn unpacked(file: File) -> Result<Box<dyn Read>> {
    let mut file = BufReader::new(file);
    Ok(match file.fill_buf()?.starts_with(GZIP_MAGIC) {
        true => Box::new(Bounded { gzip: MultiGzDecoder::new(file), left: limits::BLOB_BYTES }),
        false => Box::new(file),
    })
}

/// The unpacked bytes of a gzipped archive, up to a limit. An archive without compression needs no limit, because it
/// takes no more room than it has already.
struct Bounded<R> {
    gzip: MultiGzDecoder<R>,
    left: u64,
}

impl<R: BufRead> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.gzip.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            let limit = limits::BLOB_BYTES;
            std::io::Error::other(format!("it unpacks to more than the {limit} bytes allowed"))
        })?;
        Ok(count)
    }
}

/// Unpacks one entry, and returns whether it was the index.
fn unpack_entry(layout: &Layout, entry: Entry<'_, impl Read>) -> Result<bool> {
    let path: PathBuf = entry.path()?.components().filter(|it| *it != Component::CurDir).collect();
    if !entry.header().entry_type().is_file() {
        return Ok(false);
    }
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    match parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().as_slice() {
        ["index.json"] => unpack_index(layout, entry).map(|()| true),
        ["blobs", "sha256", digits] => unpack_blob(layout, digits, entry).map(|()| false),
        // `docker save` adds files in its own form for older readers.
        _ => Ok(false),
    }
}

fn unpack_index(layout: &Layout, mut entry: Entry<'_, impl Read>) -> Result<()> {
    within(limits::JSON_BYTES, || format!("index.json of {}", layout.title), entry.size())?;
    let mut text = Vec::new();
    entry.read_to_end(&mut text)?;
    blob::write(&layout.directory().join("index.json"), &text)
}

fn unpack_blob(layout: &Layout, digits: &str, entry: Entry<'_, impl Read>) -> Result<()> {
    let digits: Sha256Digest =
        digits.parse().with_context(|| format!("blobs/sha256/{digits} is not a digest"))?;
    let blob = Descriptor::new(MediaType::Other(String::new()), entry.size(), digits);
    let writer = layout.writer(&blob, &layout.title)?;
    blob::fill(writer, entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(entries: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut tar = Builder::new(file);
        for (path, bytes) in entries {
            let mut header = Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, *bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn refusal(entries: &[(&str, &[u8])]) -> String {
        let (file, directory) = (archive(entries), tempfile::tempdir().unwrap());
        format!("{:#}", unpack(file.path(), directory.path()).unwrap_err())
    }

    #[test]
    fn what_was_packed_is_unpacked_and_packs_alike() {
        let [from, to] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let layout = Layout::create(from.path()).unwrap();
        let blob = layout.add("application/wasm", b"\0asm").unwrap();
        layout.tag(&blob, "r.example/app:1", "1").unwrap();
        let (one, two) = (from.path().join("1.tar"), from.path().join("2.tar"));
        pack(&layout, &one).unwrap();
        let again = unpack(&one, to.path()).unwrap();
        assert_eq!(again.read(&blob, 10).unwrap(), b"\0asm");
        assert_eq!(again.listed().unwrap(), layout.listed().unwrap());
        pack(&again, &two).unwrap();
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
    }

    #[test]
    fn an_archive_is_compressed_where_its_name_says_so_and_read_whatever_its_name_is() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(&directory.path().join("layout")).unwrap();
        let blob = layout.add("application/wasm", &[7; 100_000]).unwrap();
        for (name, is_compressed) in [("a.tar", false), ("a.tar.gz", true), ("a.tgz", true)] {
            let (archive, moved) = (directory.path().join(name), directory.path().join("archive"));
            pack(&layout, &archive).unwrap();
            let bytes = std::fs::read(&archive).unwrap();
            assert_eq!(bytes.starts_with(GZIP_MAGIC), is_compressed, "{name}");
            pack(&layout, &archive).unwrap();
            assert!(std::fs::read(&archive).unwrap() == bytes, "{name} is not the same again");
            std::fs::rename(&archive, &moved).unwrap();
            let again = unpack(&moved, &directory.path().join(format!("from-{name}"))).unwrap();
            assert_eq!(again.read(&blob, 100_000).unwrap(), [7; 100_000]);
        }
    }

    #[test]
    fn a_blob_that_is_not_what_its_name_says_is_named() {
        let path = format!("blobs/sha256/{}", "0".repeat(64));
        let text = refusal(&[(&path, b"x"), ("index.json", b"{}")]);
        assert!(text.contains(&format!("other content for sha256:{}", "0".repeat(64))), "{text}");
    }

    #[test]
    fn an_archive_without_an_index_is_no_layout() {
        assert!(refusal(&[("etc/passwd", b"x")]).contains("no index.json"));
        let directory = tempfile::tempdir().unwrap();
        let not_tar = directory.path().join("x.tar");
        std::fs::write(&not_tar, "hello").unwrap();
        let error = unpack(&not_tar, &directory.path().join("layout")).unwrap_err();
        assert!(error.to_string().contains("is not a tar archive"), "{error}");
    }
}
