//! Moving images to and from a registry, and between archives, layouts and registries.

use crate::registry::Registry;
use crate::support::{COMMAND, Work};

#[test]
fn what_was_built_and_pushed_is_pulled_with_the_same_digest() {
    let (work, registry) = (Work::new(), Registry::start());
    let name = format!("{}/team/app:1", registry.address);
    work.file("app.wat", COMMAND);
    let built =
        work.run(&format!("build app.wat -t {name} --push --plain-http --format json")).ok().json();
    assert_eq!((&built["image"], &built["sent"]), (&name.clone().into(), &2.into()));

    let by_tag = work.run(&format!("pull {name} -o a.tar --plain-http --format json")).ok().json();
    assert_eq!(by_tag["digest"], built["digest"]);
    let digest = built["digest"].as_str().unwrap();
    let exact = format!("{}/team/app@{digest}", registry.address);
    let by_digest = work.run(&format!("pull {exact} -o b --plain-http --format json")).ok().json();
    assert_eq!(by_digest["digest"], built["digest"]);
    assert_eq!(work.left(), [""; 0]);
}

#[test]
fn what_the_registry_has_is_not_sent_again() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let push = |tag: &str| {
        let name = format!("{}/app:{tag}", registry.address);
        work.run(&format!("build app.wat -t {name} --push --plain-http --format json")).ok().json()
    };
    assert_eq!((push("1")["sent"].clone(), push("2")["present"].clone()), (2.into(), 2.into()));
    assert_eq!(registry.requests("POST /v2/app/blobs/uploads/"), 2);
    assert_eq!(registry.requests("PUT /v2/app/manifests/"), 2);
}

#[test]
fn a_pull_into_a_layout_goes_on_with_what_is_missing() {
    let (work, registry) = (Work::new(), Registry::start());
    let name = format!("{}/app:1", registry.address);
    work.file("app.wat", COMMAND);
    work.run(&format!("build app.wat -t {name} --push --plain-http")).ok();
    work.run(&format!("pull {name} -o app --plain-http")).ok();
    let blobs = work.path("app/blobs/sha256");
    let mut files = std::fs::read_dir(&blobs).unwrap().map(|it| it.unwrap().path());
    let layer = files.find(|it| std::fs::read(it).unwrap().starts_with(b"\0asm")).unwrap();
    std::fs::remove_file(&layer).unwrap();
    let again = work.run(&format!("pull {name} -o app --plain-http --format json")).ok().json();
    assert_eq!((&again["sent"], &again["present"]), (&1.into(), &1.into()));
    assert!(layer.exists());
}

#[test]
fn a_copy_keeps_the_digest_and_a_registry_takes_over_its_own_blobs() {
    let (work, registry, other) = (Work::new(), Registry::start(), Registry::start());
    work.file("app.wat", COMMAND);
    let one = format!("{}/one:1", registry.address);
    let built =
        work.run(&format!("build app.wat -t {one} --push --plain-http --format json")).ok().json();
    let copy =
        |to: &str| work.run(&format!("copy {one} {to} --plain-http --format json")).ok().json();
    let mounted = copy(&format!("{}/two:1", registry.address));
    assert_eq!((&mounted["digest"], &mounted["sent"]), (&built["digest"], &0.into()));
    let sent = copy(&format!("{}/two:1", other.address));
    assert_eq!((&sent["digest"], &sent["sent"]), (&built["digest"], &2.into()));
    assert_eq!(copy("oci:layout")["digest"], built["digest"]);
    let archive = work.run("copy oci:layout ./b.tar --format json").ok().json();
    assert_eq!(archive["digest"], built["digest"]);
}

#[test]
fn a_large_blob_is_sent_in_parts_and_comes_back_whole() {
    let (work, registry) = (Work::new(), Registry::start());
    let large: Vec<u8> =
        (0..10_000_000_u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    work.file("large", &large);
    let name = format!("{}/large:1", registry.address);
    work.run(&format!("build --file large:/large -t {name} --push --plain-http")).ok();
    assert_eq!(registry.requests("PATCH /v2/large/blobs/uploads/"), 3);
    let pulled =
        work.run(&format!("pull {name} -o large.tar --plain-http --format json")).ok().json();
    assert!(pulled["sentBytes"].as_u64().unwrap() > 10_000_000);
}

#[test]
fn each_end_of_a_copy_is_reached_as_is_said_of_it() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let name = format!("{}/app:1", registry.address);
    work.run("build app.wat -t r.example/app:1 -o app.tar").ok();
    work.run(&format!("copy app.tar {name} --to-plain-http")).ok();
    work.run(&format!("copy app.tar {name} --from-plain-http")).fails(1);
    work.run(&format!("copy {name} x.tar --from-plain-http")).ok();
    work.run(&format!("copy {name} x.tar --to-plain-http")).fails(1);
    // The other end is on another machine, which must never be used without TLS.
    let error = work.run(&format!("copy {name} r.invalid/app:1 --plain-http")).fails(2);
    assert!(error.contains("not r.invalid"), "{error}");
    let line = format!("copy {name} r.invalid/app:1 --from-plain-http --retries 0");
    let error = work.run(&line).fails(6);
    assert!(error.contains("r.invalid cannot be used"), "{error}");
}

#[test]
fn an_image_on_standard_output_is_that_in_a_file_and_the_report_is_beside_it() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let name = format!("{}/app:1", registry.address);
    let command = |line: &str| {
        let done = work.command(line).output().unwrap();
        assert!(done.status.success(), "{line}: {done:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains(&name), "{line}: {done:?}");
        done.stdout
    };
    let built = command(&format!("build app.wat -t {name} -o - --push --plain-http"));
    work.run(&format!("build app.wat -t {name} -o app.tar")).ok();
    assert!(built == std::fs::read(work.path("app.tar")).unwrap());
    assert!(command("copy app.tar -") == built);
    assert!(command(&format!("pull {name} -o - --plain-http")) == built);
    let error = work.run("copy - x.tar").fails(2);
    assert!(error.contains("where no image can be read"), "{error}");
}

#[test]
fn an_archive_is_compressed_where_its_name_says_so() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    for name in ["app.tgz", "app.tar.gz"] {
        work.run(&format!("build app.wat -t r.example/app:1 -o {name}")).ok();
        assert!(std::fs::read(work.path(name)).unwrap().starts_with(&[0x1f, 0x8b]), "{name}");
        work.run(&format!("inspect {name}")).ok();
        work.run(&format!("copy {name} x.tar")).ok();
        assert!(std::fs::read(work.path("x.tar")).unwrap().starts_with(b"oci-layout"), "{name}");
    }
}

#[test]
fn an_archive_is_pushed_under_its_own_name() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let name = format!("{}/app:1", registry.address);
    work.run(&format!("build app.wat -t {name} -o app.tar")).ok();
    let pushed = work.run("push app.tar --plain-http --format json").ok().json();
    assert_eq!(pushed["image"], name);
    assert_eq!(registry.requests("PUT /v2/app/manifests/1"), 1);
}

#[test]
fn an_artifact_becomes_an_image_without_its_layer_being_sent_again() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let (lib, app) =
        (format!("{}/lib:1", registry.address), format!("{}/team/app:1", registry.address));
    work.run(&format!("build app.wat -t {lib} --artifact --push --plain-http")).ok();
    let inspected = work.run(&format!("inspect {lib} --plain-http")).ok().stdout;
    assert!(inspected.contains("its Pod must give a `command`"), "{inspected}");

    let done =
        work.run(&format!("convert {lib} -t {app} --push --plain-http --format json")).ok().json();
    assert_eq!((&done["sent"], &done["present"]), (&1.into(), &1.into()));
    let image = work.run(&format!("inspect {app} --plain-http --format json")).ok().json();
    assert_eq!(image["entrypoint"], serde_json::json!(["/app.wasm"]));
    assert_eq!(image["platforms"], serde_json::json!(["wasip2/wasm"]));
    assert_eq!(image["notes"], serde_json::json!([]));
    let error = work.run(&format!("convert {app} -t {app} -o x.tar --plain-http")).fails(1);
    assert!(error.contains("is already an image"), "{error}");
}

#[test]
fn all_platforms_of_an_index_are_copied() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    for platform in ["wasip2/wasm", "linux/amd64"] {
        work.run(&format!("build app.wat -t r.example/app:1 -o {platform} --platform {platform}"))
            .ok();
    }
    let index = index_of(&work, &["wasip2/wasm", "linux/amd64"]);
    let name = format!("{}/app:1", registry.address);
    let pushed = work.run(&format!("push {index} {name} --plain-http --format json")).ok().json();
    assert_eq!(pushed["mediaType"], "application/vnd.oci.image.index.v1+json");
    let inspected = work.run(&format!("inspect {name} --plain-http --format json")).ok().json();
    assert_eq!(inspected["platforms"], serde_json::json!(["wasip2/wasm", "linux/amd64"]));
    let pulled =
        work.run(&format!("pull {name} -o all.tar --plain-http --format json")).ok().json();
    assert_eq!(pulled["digest"], pushed["digest"]);
    assert_eq!(pulled["sent"], 3, "two configs and the layer they share");
}

/// Makes a layout with one image: an index of the images of other layouts, each for the platform in its name.
fn index_of(work: &Work, layouts: &[&str]) -> String {
    use serde_json::{Value, json};
    let blobs = work.path("index/blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let mut manifests = Vec::new();
    for layout in layouts {
        for blob in std::fs::read_dir(work.path(&format!("{layout}/blobs/sha256"))).unwrap() {
            let blob = blob.unwrap();
            std::fs::copy(blob.path(), blobs.join(blob.file_name())).unwrap();
        }
        let listed = std::fs::read(work.path(&format!("{layout}/index.json"))).unwrap();
        let listed: Value = serde_json::from_slice(&listed).unwrap();
        let (os, architecture) = layout.split_once('/').unwrap();
        let mut manifest = listed["manifests"][0].clone();
        manifest["annotations"].take();
        manifest.as_object_mut().unwrap().remove("annotations");
        manifest["platform"] = json!({ "os": os, "architecture": architecture });
        manifests.push(manifest);
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let of = |manifests: Value| {
        json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests }).to_string()
    };
    let index = of(manifests.into());
    let digest = sha256(index.as_bytes());
    work.file(&format!("index/blobs/sha256/{digest}"), &index);
    let entry = json!([{ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": index.len() }]);
    work.file("index/index.json", of(entry));
    work.file("index/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    "index".into()
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_not_there_is_named_and_has_its_own_exit_code() {
    let (work, registry) = (Work::new(), Registry::start());
    let address = &registry.address;
    let error = work.run(&format!("pull {address}/no/such:1 -o x.tar --plain-http")).fails(3);
    assert!(error.contains(&format!("{address}/no/such has no tag 1")), "{error}");
    assert!(!work.path("x.tar").exists());
    let digest = format!("sha256:{}", "0".repeat(64));
    let error =
        work.run(&format!("pull {address}/no/such@{digest} -o x.tar --plain-http")).fails(3);
    assert!(error.contains(&format!("has no {digest}")), "{error}");
    let error = work.run("push no-such.tar r.example/app:1").fails(3);
    assert!(error.contains("no-such.tar"), "{error}");
}

#[test]
fn one_of_several_images_in_a_layout_must_be_named() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    for tag in ["r.example/one:1", "r.example/two:1"] {
        work.run(&format!("build app.wat -t {tag} -o both --label name={tag}")).ok();
    }
    let name = format!("{}/app:1", registry.address);
    let error = work.run(&format!("push both {name} --plain-http")).fails(2);
    assert!(error.contains("r.example/one:1, r.example/two:1"), "{error}");
    work.run(&format!("push both {name} --plain-http --image r.example/two:1")).ok();
    let error =
        work.run(&format!("push both {name} --plain-http --image r.example/six:1")).fails(3);
    assert!(error.contains("no image called r.example/six:1"), "{error}");
}
