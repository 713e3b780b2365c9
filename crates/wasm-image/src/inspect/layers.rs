//! Looking for files in the layers of a root, as the node would stack them (OCI image specification, "Image Layer
//! Filesystem Changeset").

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use flate2::read::MultiGzDecoder;
use oci_spec::image::Descriptor;

use crate::errors::within;
use crate::limits;
use crate::transfer::Source;

/// What the layers say of a path: a file's bytes, or that there is no file.
type Found = HashMap<PathBuf, Option<Vec<u8>>>;

/// The first of the candidates that is a file, in the topmost layer that says anything about it.
pub async fn find_file(
    source: &Source,
    layers: &[&Descriptor],
    candidates: &[PathBuf],
) -> Result<Option<(String, Vec<u8>)>> {
    let mut found = Found::new();
    let mut left = limits::UNPACKED_BYTES;
    for layer in layers.iter().rev().filter(|_| !candidates.is_empty()) {
        let file = File::open(source.file(layer).await?)?;
        let title = format!("{} of {}", layer.digest(), source.title());
        let unpacked = unpacked(layer, BufReader::new(file)).with_context(|| title.clone())?;
        let mut unpacked = unpacked.take(left + 1);
        let looked = look(&mut unpacked, candidates, &mut found);
        let read = left + 1 - unpacked.limit();
        let sum = limits::UNPACKED_BYTES - left + read;
        within(limits::UNPACKED_BYTES, || format!("{title}, unpacked,"), sum)?;
        looked.with_context(|| format!("cannot read {title}"))?;
        left -= read;
    }
    let first = candidates.iter().find_map(|it| Some((it, found.remove(it)??)));
    Ok(first.map(|(path, bytes)| (format!("/{}", path.display()), bytes)))
}

/// A path below the root: without the leading slash, and with nothing but names.
pub fn plain(path: &Path) -> PathBuf {
    path.components().filter(|it| matches!(it, Component::Normal(_))).collect()
}

/// A layer's tar, by its media type.
fn unpacked(layer: &Descriptor, file: impl Read + 'static) -> Result<Box<dyn Read>> {
    let media_type = layer.media_type().to_string();
    match media_type.as_str() {
        it if it.ends_with("tar+gzip") || it.ends_with("tar.gzip") => {
            Ok(Box::new(MultiGzDecoder::new(file)))
        }
        it if it.ends_with(".tar") || it.ends_with("diff.tar") => Ok(Box::new(file)),
        other => bail!("layers of type {other} are not looked into"),
    }
}

/// Notes the files that are wanted and those that are taken away, unless a layer above did.
fn look(tar: impl Read, candidates: &[PathBuf], found: &mut Found) -> Result<()> {
    // What a layer takes away is below it: its own files are there, in whatever order the entries are.
    let (mut own, mut gone) = (Found::new(), Found::new());
    for (count, entry) in tar::Archive::new(tar).entries()?.enumerate() {
        within(limits::ENTRIES as u64, || "its list of entries".into(), count as u64)?;
        let mut entry = entry?;
        let (path, kind) = (plain(&entry.path()?), entry.header().entry_type());
        let hidden = candidates.iter().filter(|it| hides(&path, kind.is_dir(), it));
        gone.extend(hidden.map(|it| (it.clone(), None)));
        if candidates.contains(&path) && !found.contains_key(&path) {
            within(provided::WASM_BYTES, || format!("/{}", path.display()), entry.size())?;
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            own.insert(path, kind.is_file().then_some(bytes));
        }
    }
    for (path, said) in own.into_iter().chain(gone) {
        found.entry(path).or_insert(said);
    }
    Ok(())
}

/// Whether an entry takes a file of the layers below away: a whiteout `.wh.NAME` of it or of a folder around it, an
/// opaque folder around it (OCI image specification, "Whiteouts"), or what is no folder in the place of one.
fn hides(entry: &Path, is_folder: bool, file: &Path) -> bool {
    let folder = entry.parent().unwrap_or(Path::new(""));
    let name = entry.file_name().and_then(|it| it.to_str()).unwrap_or_default();
    match name.strip_prefix(".wh.") {
        Some(".wh..opq") => file.starts_with(folder),
        // These would be the folder itself or the one around it, which no whiteout can name.
        Some("" | "." | "..") => false,
        Some(name) => file.starts_with(folder.join(name)),
        None => !is_folder && file != entry && file.starts_with(entry),
    }
}

#[cfg(test)]
mod tests {
    use tar::{EntryType, Header};

    use super::*;

    /// The tar of a layer: folders end in a slash.
    fn layer(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, text) in entries {
            let is_folder = path.ends_with('/');
            let mut header = Header::new_gnu();
            header.set_entry_type(if is_folder {
                EntryType::Directory
            } else {
                EntryType::Regular
            });
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    /// What is found of `opt/app/a.wasm` in these layers, the topmost first.
    fn found(layers: &[&[(&str, &str)]]) -> Option<String> {
        let path = PathBuf::from("opt/app/a.wasm");
        let mut found = Found::new();
        for entries in layers {
            look(layer(entries).as_slice(), std::slice::from_ref(&path), &mut found).unwrap();
        }
        found.remove(&path).flatten().map(|it| String::from_utf8(it).unwrap())
    }

    const BELOW: &[(&str, &str)] = &[("opt/", ""), ("opt/app/", ""), ("opt/app/a.wasm", "below")];

    #[test]
    fn what_a_layer_takes_away_is_not_found_below_it() {
        for whiteout in [
            "opt/app/.wh.a.wasm",
            "opt/.wh.app",
            ".wh.opt",
            "opt/app/.wh..wh..opq",
            "./opt/.wh..wh..opq",
            ".wh..wh..opq",
            "opt/app",
            "opt",
        ] {
            assert_eq!(found(&[&[(whiteout, "")], BELOW]), None, "{whiteout}");
        }
    }

    #[test]
    fn what_it_takes_away_elsewhere_changes_nothing() {
        for entry in [
            "opt/app/.wh.a",
            "opt/.wh.ap",
            "opt/other/.wh..wh..opq",
            "opt/app/.wh..wh..opq.txt",
            "opt/app/.wh...",
            "opt/app/",
            "opt/",
        ] {
            assert_eq!(found(&[&[(entry, "")], BELOW]).as_deref(), Some("below"), "{entry}");
        }
    }

    #[test]
    fn its_own_files_stay_in_either_order() {
        let (opaque, file) = (("opt/app/.wh..wh..opq", ""), ("opt/app/a.wasm", "above"));
        for entries in [[opaque, file], [file, opaque]] {
            assert_eq!(found(&[&entries, BELOW]).as_deref(), Some("above"));
        }
        let nothing = [("opt/app/.wh.a.wasm", "")];
        assert_eq!(found(&[&[file], &nothing, BELOW]).as_deref(), Some("above"));
    }
}
