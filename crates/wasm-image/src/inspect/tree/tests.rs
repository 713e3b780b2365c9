//! Tests of layers that are applied to each other.

use std::io::Write;

use oci_spec::image::{Descriptor, MediaType, Sha256Digest};
use tar::Header;

use super::*;

const TAR: &str = "application/vnd.oci.image.layer.v1.tar";

/// The entries of a layer. Directories end in a slash, links are `from -> to`, hard links are `from => to`, and the
/// content of an ordinary file stands beside its path.
type Entries<'a> = &'a [(&'a str, &'a str)];

fn tar_of(entries: Entries<'_>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, text) in entries {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        if let Some((from, to)) = path.split_once(" -> ") {
            header.set_entry_type(EntryType::Symlink);
            tar.append_link(&mut header, from, to).unwrap();
        } else if let Some((from, to)) = path.split_once(" => ") {
            header.set_entry_type(EntryType::Link);
            tar.append_link(&mut header, from, to).unwrap();
        } else if path.ends_with('/') {
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, path, std::io::empty()).unwrap();
        } else {
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
    }
    tar.into_inner().unwrap()
}

/// Makes a tree of layers, the lowest first, and the directory that has them.
fn tree(layers: &[Entries<'_>]) -> (tempfile::TempDir, Tree) {
    let tars: Vec<_> = layers.iter().map(|entries| (TAR, tar_of(entries))).collect();
    tree_of(&tars).map(|(directory, tree)| (directory, tree.unwrap())).unwrap()
}

fn tree_of(layers: &[(&str, Vec<u8>)]) -> Result<(tempfile::TempDir, Result<Tree>)> {
    let directory = tempfile::tempdir()?;
    let mut found = Vec::new();
    for (count, (media_type, bytes)) in layers.iter().enumerate() {
        let path = directory.path().join(count.to_string());
        std::fs::write(&path, bytes)?;
        let digest: Sha256Digest = "0".repeat(64).parse()?;
        let descriptor = Descriptor::new(MediaType::from(*media_type), bytes.len() as u64, digest);
        found.push(Layer::new(&descriptor, path, "the image"));
    }
    Ok((directory, Tree::of(found)))
}

/// Returns what exists at a path of these layers: the text of a file, or the kind of anything else.
fn at(path: &str, layers: &[Entries<'_>]) -> String {
    let (_folder, tree) = tree(layers);
    match tree.look(Path::new(path)) {
        Found::File(file) => String::from_utf8(tree.bytes(&file, 100).unwrap()).unwrap(),
        Found::Other { found, .. } => found.into(),
        Found::Nothing => "nothing".into(),
    }
}

const FILE: &str = "/opt/app/a.wasm";
const BELOW: Entries<'_> = &[("opt/", ""), ("opt/app/", ""), ("opt/app/a.wasm", "below")];

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
        assert_eq!(at(FILE, &[BELOW, &[(whiteout, "")]]), "nothing", "{whiteout}");
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
        assert_eq!(at(FILE, &[BELOW, &[(entry, "")]]), "below", "{entry}");
    }
}

#[test]
fn its_own_files_stay_in_either_order() {
    let (opaque, file) = (("opt/app/.wh..wh..opq", ""), ("opt/app/a.wasm", "above"));
    for entries in [[opaque, file], [file, opaque]] {
        assert_eq!(at(FILE, &[BELOW, &entries]), "above");
    }
    assert_eq!(at(FILE, &[BELOW, &[("opt/app/.wh.a.wasm", "")], &[file]]), "above");
}

#[test]
fn links_lead_to_the_file_and_nowhere_else() {
    let real = ("opt/real.wasm", "real");
    for link in
        ["app.wasm -> opt/real.wasm", "app.wasm -> /opt/real.wasm", "app.wasm => opt/real.wasm"]
    {
        assert_eq!(at("/app.wasm", &[&[real, (link, "")]]), "real", "{link}");
    }
    assert_eq!(at("/app.wasm", &[&[("app.wasm -> ../../etc/passwd", "")]]), "nothing");
    assert_eq!(at("/a", &[&[("a -> b", ""), ("b -> a", "")]]), "nothing");
}

#[test]
fn a_hard_link_to_a_file_of_a_layer_below_cannot_be_unpacked() {
    let below = (TAR, tar_of(&[("opt/real.wasm", "real")]));
    let above = (TAR, tar_of(&[("app.wasm => opt/real.wasm", "")]));
    let (_folder, tree) = tree_of(&[below, above]).unwrap();
    let error = format!("{:#}", tree.unwrap_err());
    assert!(error.contains("/app.wasm is a hard link to what its layer does not have"), "{error}");
}

#[test]
fn an_entry_is_put_where_the_links_of_its_own_layer_lead() {
    let own: Entries<'_> = &[("usr/lib/", ""), ("lib -> usr/lib", ""), ("lib/app.wasm", "through")];
    assert_eq!(at("/usr/lib/app.wasm", &[own]), "through");
    assert_eq!(at("/lib/app.wasm", &[own]), "through");
    // A directory replaces a link below it.
    let (below, above) = own.split_at(2);
    assert_eq!(at("/usr/lib/app.wasm", &[below, above]), "nothing");
    assert_eq!(at("/lib/app.wasm", &[below, above]), "through");
}

#[test]
fn what_is_no_file_is_named() {
    assert_eq!(at("/opt/app", &[BELOW]), "a directory");
    // Directories need no entry of their own.
    assert_eq!(at("/opt", &[&[("opt/app/a.wasm", "")]]), "a directory");
    assert_eq!(at("/opt/app/a.wasm/more", &[BELOW]), "nothing");
}

#[test]
fn layers_are_read_as_they_are_compressed() {
    let tar = tar_of(BELOW);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    let (gzip, zstd) = (gzip.finish().unwrap(), zstd::bulk::compress(&tar, 1).unwrap());
    let docker = "application/vnd.docker.image.rootfs.diff.tar";
    for (media_type, bytes) in [
        (format!("{TAR}+gzip"), &gzip),
        (format!("{TAR}+zstd"), &zstd),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip".into(), &gzip),
        (format!("{docker}.gzip"), &gzip),
        (format!("{docker}.zstd"), &zstd),
        // Docker's plain media type does not state the compression.
        (docker.into(), &gzip),
        (docker.into(), &tar),
    ] {
        let (_folder, tree) = tree_of(&[(&media_type, bytes.clone())]).unwrap();
        let found = tree.unwrap().look(Path::new(FILE));
        assert!(matches!(found, Found::File(_)), "{media_type}: {found:?}");
    }
    let (_folder, tree) = tree_of(&[(&format!("{TAR}+lz4"), tar)]).unwrap();
    assert!(format!("{:#}", tree.unwrap_err()).contains("tar+lz4 cannot be unpacked"));
}
