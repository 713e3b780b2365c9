//! Tests of entrypoints over files of which only the first bytes are known.

use std::collections::BTreeMap;

use super::*;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Returns what is found over these files and a directory `/dir`.
fn found(arg: &str, files: &[(&str, &'static [u8])]) -> Result<(String, Option<String>), Refusal> {
    let files: BTreeMap<&Path, &[u8]> =
        files.iter().map(|(path, bytes)| (Path::new(*path), *bytes)).collect();
    let args = [arg.to_owned()];
    let process = Process { args: &args, cwd: Path::new("/"), env: &["PATH=/bin".into()] };
    let look = |path: &Path| {
        Ok::<_, Refusal>(match files.get(path) {
            Some(bytes) => Found::File(*bytes),
            None if path == Path::new("/dir.wasm") => {
                Found::Other { path: path.into(), found: "a directory" }
            }
            None => Found::Nothing,
        })
    };
    let head = |bytes: &&[u8]| Ok(Head { bytes: bytes.to_vec(), size: bytes.len() as u64 });
    let (entrypoint, entry) = find(&process, look, head)?;
    let step = entry.step(&entrypoint)?;
    let layers = match step {
        Step::Guest(_) => "guest".to_owned(),
        Step::Program(_) => "program".to_owned(),
        Step::Layers => match of_layers(&process, &entrypoint, Err::<(), _>(NO_LAYERS))? {
            Some(()) => "layers".to_owned(),
            None => "no program".to_owned(),
        },
    };
    Ok((layers, entrypoint.export.map(str::to_owned)))
}

fn is(arg: &str, files: &[(&str, &'static [u8])], what: &str, export: Option<&str>) {
    assert_eq!(found(arg, files).unwrap(), (what.to_owned(), export.map(str::to_owned)), "{arg}");
}

#[test]
fn a_file_with_a_hash_in_its_name_is_that_file() {
    let files: [(&str, &[u8]); 2] = [("/bin/c#", b"#!/bin/sh\n"), ("/app.wasm", MODULE)];
    is("c#", &files, "program", None);
    is("/app.wasm#run", &files, "guest", Some("run"));
    is("app.wasm", &files, "guest", None);
}

#[test]
fn a_file_is_taken_before_what_is_none() {
    is("dir.wasm", &[("/bin/dir.wasm", MODULE)], "guest", None);
}

#[test]
fn what_is_no_file_is_a_guest_s_layers_or_a_program_that_is_missing() {
    is("/bin/sh", &[], "no program", None);
    let error = found("/app.wasm", &[]).unwrap_err();
    assert!(matches!(error, Refusal::EntrypointNotFound { .. }), "{error}");
    let error = found("/dir.wasm", &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "entrypoint \"/dir.wasm\" is a directory; it must be a regular file"
    );
}

fn manifest(layers: &[(&str, u64)]) -> Manifest {
    let descriptor = |media_type: &str, size: u64| {
        let digest = format!("sha256:{size:064}");
        serde_json::json!({ "mediaType": media_type, "size": size, "digest": digest })
    };
    let layers: Vec<_> = layers.iter().map(|(kind, size)| descriptor(kind, *size)).collect();
    let config = descriptor("application/vnd.oci.image.config.v1+json", 1);
    serde_json::from_value(serde_json::json!({ "config": config, "layers": layers })).unwrap()
}

#[test]
fn only_wasm_layers_are_taken_and_keep_their_order() {
    let [first, zstd, second, third] = provided::WASM_LAYERS;
    let manifest = manifest(&[
        ("application/vnd.oci.image.layer.v1.tar+gzip", 2),
        (third, 3),
        (first, 4),
        ("application/vnd.in-toto+json", 5),
        ("application/wasm+gzip", 6),
        (zstd, 7),
        (second, 1),
    ]);
    let sizes = |layers: Vec<&Descriptor>| layers.iter().map(|it| it.size()).collect::<Vec<_>>();
    assert_eq!(sizes(wasm_layers(&manifest).unwrap()), [3, 4, 7, 1]);
    assert_eq!(sizes(ignored(&manifest).collect()), [5, 6]);
}

#[test]
fn layers_that_are_too_many_or_together_too_large_are_refused() {
    let (small, half) =
        ((provided::WASM_LAYERS[0], 8), (provided::WASM_LAYERS[0], provided::WASM_BYTES / 2));
    let refusal = |layers: &[(&str, u64)]| wasm_layers(&manifest(layers)).unwrap_err();
    assert!(wasm_layers(&manifest(&[half, half])).is_ok());
    assert!(matches!(refusal(&[half, half, small]), Refusal::TooLarge { .. }));
    let huge = (provided::WASM_LAYERS[0], u64::MAX);
    assert!(matches!(refusal(&[huge, huge]), Refusal::TooLarge { .. }));
    let many = vec![small; provided::LAYERS + 1];
    assert!(matches!(refusal(&many), Refusal::TooManyLayers { .. }));
}
