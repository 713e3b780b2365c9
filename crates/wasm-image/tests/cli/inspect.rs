//! The output of `inspect` for files and images.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use serde_json::json;

use crate::support::{COMMAND, UNPROVIDED, Work};

#[test]
fn an_interface_of_types_alone_runs_and_a_closed_pipe_is_no_failure() {
    let work = Work::new();
    let types = r#"(import "acme:shop/types@1.0.0" (instance
        (type $kind (enum "net" "gross")) (export "kind" (type (eq $kind)))))"#;
    work.file("app.wat", COMMAND.replacen("(component", &format!("(component {types}"), 1));
    let report = work.run("inspect app.wat --format json").ok().json();
    assert_eq!(
        (&report["runs"], report["guests"][0]["imports"].as_array().unwrap().len()),
        (&true.into(), 1)
    );

    let mut inspect = work.command("inspect app.wat");
    let mut inspect = inspect.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(inspect.stdout.take());
    let done = inspect.wait_with_output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
}

#[test]
fn the_report_of_a_command_has_its_world_imports_and_needs() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    let report = work.run("inspect app.wat --format json").ok().json();
    let guest = &report["guests"][0];
    assert_eq!(
        (&guest["kind"], &guest["world"]),
        (&"component".into(), &"wasi:cli/command@0.2".into())
    );
    let imports = json!([{ "name": "wasi:cli/environment@0.2.3", "items": ["initial-cwd"] }]);
    assert_eq!(guest["imports"], imports);
    assert_eq!(guest["exports"], json!(["wasi:cli/run@0.2.3"]));
    assert_eq!(guest["needs"], json!(["env"]));
    assert_eq!(report["runs"], true);
    let text = work.run("inspect app.wat").ok().stdout;
    assert!(text.contains("environment variables") && text.contains("runs          yes"), "{text}");
}

#[test]
fn an_image_that_cannot_run_ends_with_code_5_and_names_the_import() {
    let work = Work::new();
    work.file("app.wat", UNPROVIDED);
    work.run("build app.wat -t r.example/app:1 -o app.tar").ok();
    let done = work.run("inspect app.tar --format json");
    assert_eq!(
        (done.json()["runs"].clone(), done.json()["guests"][0]["world"].clone()),
        (false.into(), json!(null))
    );
    let error = done.fails(5);
    assert!(
        error.contains("app.tar cannot run on wasmtime-shim")
            && error.contains("acme:db/query@1.0.0"),
        "{error}"
    );
}

#[test]
fn what_a_guest_needs_of_webassembly_is_shown_and_allowed_by_a_label() {
    let work = Work::new();
    let wide = r#"(module (memory (export "memory") 1) (func (export "_start")
        (i64.mul_wide_u (i64.const 6) (i64.const 7)) drop drop))"#;
    work.file("app.wat", wide);
    let remedy = "wasmtime.shim/features \"wasm3, wide-arithmetic\" would allow that";
    let alone = work.run("inspect app.wat");
    assert!(alone.stdout.contains("WebAssembly   2.0 with wide-arithmetic\n"), "{alone:?}");
    let error = alone.fails(5);
    assert!(error.contains("that are off: wide-arithmetic") && error.contains(remedy), "{error}");

    let built = work.run("build app.wat -t r.example/app:1 -o plain.tar").ok();
    assert!(built.stderr.contains("warning: it will not run"), "{built:?}");
    assert!(built.stderr.contains(remedy), "{built:?}");
    work.run("inspect plain.tar").fails(5);
    let label = "--label wasmtime.shim/features=wide-arithmetic";
    let built = work.run(&format!("build app.wat -t r.example/app:1 -o app.tar {label}")).ok();
    assert!(!built.stderr.contains("warning"), "{built:?}");
    let report = work.run("inspect app.tar --format json").ok().json();
    assert_eq!(report["guests"][0]["features"], json!(["wide-arithmetic"]));
    assert_eq!(report["asks"], json!(["wasmtime.shim/features=wide-arithmetic"]));

    let label = "--label wasmtime.shim/features=wide";
    let built = work.run(&format!("build app.wat -t r.example/app:1 -o bad.tar {label}")).ok();
    assert!(built.stderr.contains("features: \"wide\" is not valid; allowed is"), "{built:?}");
}

#[test]
fn what_a_guest_must_be_offered_is_shown_and_a_label_that_leaves_it_out_is_refused() {
    let work = Work::new();
    let config = r#"(import "wasi:config/store@0.2.0-rc.1" (instance
        (type $error' (variant (case "upstream" string) (case "io" string)))
        (export "error" (type $error (eq $error')))
        (export "get" (func (param "key" string) (result (result (option string) (error $error)))))))"#;
    work.file("app.wat", COMMAND.replacen("(component", &format!("(component {config}"), 1));
    let report = work.run("inspect app.wat").ok().stdout;
    assert!(report.contains("interfaces    wasi:config\n"), "{report}");
    let build = |value: &str| {
        let label = format!("--label wasmtime.shim/interfaces={value}");
        work.run(&format!("build app.wat -t r.example/app:1 -o app.tar {label}")).ok()
    };
    assert!(!build("wasi:config").stderr.contains("warning"));
    let report = work.run("inspect app.tar --format json").ok().json();
    assert_eq!(report["guests"][0]["interfaces"], json!(["wasi:config"]));
    assert_eq!(report["asks"], json!(["wasmtime.shim/interfaces=wasi:config"]));
    let reason = "it imports wasi:config, which it is not offered; the label of the image offers wasi:logging; \
        wasmtime.shim/interfaces \"wasi:config, wasi:logging\" would allow that";
    let built = build("wasi:logging");
    assert!(built.stderr.contains(reason), "{built:?}");
    let error = work.run("inspect app.tar").fails(5);
    assert!(error.contains(reason), "{error}");
    let built = build("wasi:cli");
    let expected = "interfaces: \"wasi:cli\" is not valid; allowed is names with commas";
    assert!(built.stderr.contains(expected), "{built:?}");
}

#[test]
fn the_file_that_the_entrypoint_names_is_found_in_a_layer() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    work.run("build --file app.wat:/bin/app.wat --entrypoint app.wat --env PATH=/usr/bin:/bin -t r.example/app:1 -o app.tar").ok();
    let report = work.run("inspect app.tar --format json").ok().json();
    assert_eq!(
        (&report["guests"][0]["name"], &report["runs"]),
        (&"/bin/app.wat".into(), &true.into())
    );
    let tool = work.file("tool", b"\x7fELF\x02\x01\x01");
    std::fs::set_permissions(&tool, Permissions::from_mode(0o755)).unwrap();
    work.run("build --file tool:/tool --entrypoint /tool -t r.example/tool:1 -o tool.tar").ok();
    let report = work.run("inspect tool.tar --format json").ok().json();
    assert_eq!((&report["guests"], &report["runs"]), (&json!([]), &true.into()));
}

#[test]
fn the_languages_are_those_of_the_producers_section() {
    let work = Work::new();
    // A custom section "producers" with one field, language, with one value, Rust.
    let section = b"\x09producers\x01\x08language\x01\x04Rust\x041.96";
    let wasm = [b"\0asm\x01\0\0\0\0".as_slice(), &[section.len() as u8], section].concat();
    work.file("app.wasm", wasm);
    let done = work.run("inspect app.wasm --format json");
    assert_eq!(done.json()["guests"][0]["producers"], json!({ "language": ["Rust 1.96"] }));
}

#[test]
fn a_zip_bomb_of_a_layer_is_refused() {
    let work = Work::new();
    let layer = work.path("layer.tar.gz");
    bomb(&layer, 3 << 29);
    image_with_layer(&work, &std::fs::read(&layer).unwrap());
    let error = work.run("inspect oci:bomb").fails(1);
    assert!(
        error.contains("unpacked, has 1073741825 bytes; allowed is at most 1073741824"),
        "{error}"
    );
    assert_eq!(work.left(), [""; 0]);
}

/// Writes a gzipped tar with one file of zeros.
fn bomb(path: &std::path::Path, size: u64) {
    let file = std::fs::File::create(path).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    let mut header = tar::Header::new_gnu();
    header.set_path("filler").unwrap();
    header.set_size(size);
    header.set_cksum();
    gzip.write_all(header.as_bytes()).unwrap();
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), size), &mut gzip).unwrap();
    gzip.finish().unwrap();
}

/// Replaces the layer of an image.
fn image_with_layer(work: &Work, layer: &[u8]) {
    use sha2::Digest;
    let digest = |bytes: &[u8]| {
        sha2::Sha256::digest(bytes).iter().map(|it| format!("{it:02x}")).collect::<String>()
    };
    let add = |bytes: &[u8], media_type: &str| {
        let digest = digest(bytes);
        work.file(&format!("bomb/blobs/sha256/{digest}"), bytes);
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    };
    let config = json!({ "os": "linux", "architecture": "amd64", "config": { "Entrypoint": ["/app.wasm"] },
        "rootfs": { "diff_ids": [format!("sha256:{}", "0".repeat(64))] } });
    let config = add(config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json");
    let layer = add(layer, "application/vnd.oci.image.layer.v1.tar+gzip");
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest =
        json!({ "schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer] });
    let manifest = add(manifest.to_string().as_bytes(), media_type);
    work.file(
        "bomb/index.json",
        json!({ "schemaVersion": 2, "manifests": [manifest] }).to_string(),
    );
    work.file("bomb/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
}

#[test]
fn the_error_for_a_file_that_is_not_webassembly_shows_its_first_bytes() {
    let work = Work::new();
    work.file("app.wasm", "#!/bin/sh\n");
    let error = work.run("inspect app.wasm").fails(1);
    assert!(error.contains("app.wasm") && error.contains("#!/bin/s"), "{error}");
    let error = work.run("inspect missing.wasm").fails(3);
    assert!(error.contains("missing.wasm"), "{error}");
}
