//! A layout in one tar file, as `ctr image import`, `docker load` and `skopeo` take it.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::image::{Descriptor, MediaType, Sha256Digest};
use tar::{Builder, Entry, Header};

use super::blob::{self, Writer};
use super::layout::Layout;
use crate::errors::{Error, within};
use crate::limits;

/// Writes the blobs and index of a layout as an archive; the same bytes for the same layout.
pub fn pack(layout: &Layout, archive: &Path) -> Result<()> {
    let cannot_write = || format!("cannot write {}", archive.display());
    let mut tar = Builder::new(blob::beside(archive)?);
    for path in files(layout)? {
        let file = layout.folder().join(&path);
        append(&mut tar, &path, &file).with_context(cannot_write)?;
    }
    let mut file = tar.into_inner().with_context(cannot_write)?;
    file.flush().with_context(cannot_write)?;
    blob::put(file, archive)
}

/// The files of a layout, in the archive's order.
fn files(layout: &Layout) -> Result<Vec<PathBuf>> {
    let blobs = Path::new("blobs/sha256");
    let mut names = Vec::new();
    for entry in layout.folder().join(blobs).read_dir()? {
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

/// Unpacks an archive into a layout in an empty folder.
///
/// # Errors
/// [`Error::NotFound`] where there is no such file; [`Error::Digest`] of a blob that is not what its name says;
/// of entries that no layout has.
pub fn unpack(archive: &Path, folder: &Path) -> Result<Layout> {
    let title = archive.display().to_string();
    let file = open(archive)?;
    let mut layout = Layout::create(folder)?;
    layout.title = title.clone();
    let mut tar = tar::Archive::new(BufReader::new(file));
    let mut index = false;
    let damaged = || format!("{title} is not a tar archive with an OCI image layout");
    for (count, entry) in tar.entries().with_context(damaged)?.enumerate() {
        within(limits::ENTRIES as u64, || format!("the list of entries of {title}"), count as u64)?;
        index |= unpack_entry(&layout, entry.with_context(damaged)?).with_context(damaged)?;
    }
    match index {
        true => Ok(layout),
        false => bail!("{}: it has no index.json", damaged()),
    }
}

fn open(archive: &Path) -> Result<File> {
    File::open(archive).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let place = match archive.parent() {
                Some(folder) if folder != Path::new("") => folder.display().to_string(),
                _ => "this folder".into(),
            };
            let what = format!("file {}", archive.file_name().unwrap_or_default().display());
            Error::NotFound { place, what }.into()
        }
        _ => anyhow::Error::new(error).context(format!("cannot read {}", archive.display())),
    })
}

/// Puts one entry at its place, and says whether it was the index.
fn unpack_entry(layout: &Layout, entry: Entry<'_, impl Read>) -> Result<bool> {
    let path: PathBuf = entry.path()?.components().filter(|it| *it != Component::CurDir).collect();
    if !entry.header().entry_type().is_file() {
        return Ok(false);
    }
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    match parts.iter().map(AsRef::as_ref).collect::<Vec<&str>>().as_slice() {
        ["index.json"] => unpack_index(layout, entry).map(|()| true),
        ["blobs", "sha256", digits] => unpack_blob(layout, digits, entry).map(|()| false),
        // `docker save` adds files of its own form for old readers.
        _ => Ok(false),
    }
}

fn unpack_index(layout: &Layout, mut entry: Entry<'_, impl Read>) -> Result<()> {
    within(limits::JSON_BYTES, || format!("index.json of {}", layout.title), entry.size())?;
    let mut text = Vec::new();
    entry.read_to_end(&mut text)?;
    blob::write(&layout.folder().join("index.json"), &text)
}

fn unpack_blob(layout: &Layout, digits: &str, entry: Entry<'_, impl Read>) -> Result<()> {
    let digits: Sha256Digest =
        digits.parse().with_context(|| format!("blobs/sha256/{digits} is no digest"))?;
    let blob = Descriptor::new(MediaType::Other(String::new()), entry.size(), digits);
    let writer = layout.writer(&blob, &layout.title)?;
    fill(writer, entry)
}

/// Writes all that can be read, and finishes.
pub fn fill(mut writer: Writer, mut source: impl Read) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return writer.finish();
        }
        writer.write(&buffer[..count])?;
    }
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
        let (file, folder) = (archive(entries), tempfile::tempdir().unwrap());
        format!("{:#}", unpack(file.path(), folder.path()).unwrap_err())
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
        assert_eq!(again.images().unwrap(), layout.images().unwrap());
        pack(&again, &two).unwrap();
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
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
        let folder = tempfile::tempdir().unwrap();
        let not_tar = folder.path().join("x.tar");
        std::fs::write(&not_tar, "hello").unwrap();
        let error = unpack(&not_tar, &folder.path().join("layout")).unwrap_err();
        assert!(error.to_string().contains("is not a tar archive"), "{error}");
    }
}
