//! Signatures and bills of materials that refer to an image, and what happens to them when it is moved.
//!
//! Debian's registry does not list referrers, so an index of them is kept under a tag. The front replaces a registry
//! that does.

use serde_json::{Value, json};

use crate::front::{Act, Front};
use crate::registry::Registry;
use crate::support::{COMMAND, Work};

const CYCLONEDX: &str = "application/vnd.cyclonedx+json";

/// Makes a directory with an image and its bill of materials, which are in a registry. Returns also its digest.
fn with_sbom() -> (Work, Registry, String) {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let line = format!("build app.wat -t {}/app:1 --sbom --push --plain-http", registry.address);
    let built = work.run(&format!("{line} --format json")).ok().json();
    assert_eq!(built["referrers"], 1, "{built}");
    let digest = built["digest"].as_str().unwrap().to_owned();
    (work, registry, digest)
}

/// Returns the entries for an image under the tag that replaces the list.
fn listed(work: &Work, address: &str, repository: &str, digest: &str) -> Vec<Value> {
    let tag = digest.replace(':', "-");
    let directory = format!("listed-{}", address.replace(':', "-"));
    let line =
        format!("pull {address}/{repository}:{tag} -o {directory} --plain-http --format json");
    let done = work.run(&line);
    if done.code == 3 {
        return Vec::new();
    }
    let index = done.ok().json()["digest"].as_str().unwrap().replace("sha256:", "");
    let index = std::fs::read(work.path(&format!("{directory}/blobs/sha256/{index}"))).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    index["manifests"].as_array().unwrap().clone()
}

#[test]
fn a_bill_of_materials_is_pushed_and_listed_beside_its_image() {
    let (work, registry, digest) = with_sbom();
    let listed = listed(&work, &registry.address, "app", &digest);
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["artifactType"], CYCLONEDX);
    let referrer = format!("{}/app@{}", registry.address, listed[0]["digest"].as_str().unwrap());
    work.run(&format!("pull {referrer} -o sbom --plain-http")).ok();
    let blobs = std::fs::read_dir(work.path("sbom/blobs/sha256")).unwrap();
    let read = |it: std::io::Result<std::fs::DirEntry>| std::fs::read(it.unwrap().path()).unwrap();
    let all: Vec<Value> =
        blobs.map(read).filter_map(|it| serde_json::from_slice(&it).ok()).collect();
    let manifest = all.iter().find(|it| it["subject"].is_object()).expect("a manifest");
    assert_eq!(manifest["subject"]["digest"], digest);
    assert_eq!(
        manifest["layers"][0]["annotations"]["org.opencontainers.image.title"],
        "sbom.cdx.json"
    );
    let document = all.iter().find(|it| it["bomFormat"] == "CycloneDX").expect("a document");
    assert_eq!(document["metadata"]["component"]["version"], digest);
    assert_eq!(document["components"][0]["name"], "app.wat");
}

#[test]
fn the_same_input_gives_the_same_bill_of_materials() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    for name in ["one", "two"] {
        work.run(&format!("build app.wat -t r.example/app:1 --sbom -o {name}.tar")).ok();
    }
    let bytes = |name: &str| std::fs::read(work.path(name)).unwrap();
    assert!(bytes("one.tar") == bytes("two.tar"));
}

#[test]
fn an_image_without_webassembly_has_no_bill_of_materials() {
    let work = Work::new();
    work.file("hello", "hello");
    work.file("app.wat", COMMAND);
    let line = "build --file hello:/hello -t r.example/app:1 --sbom -o app.tar";
    let error = work.run(line).fails(1);
    assert!(error.contains("no WebAssembly"), "{error}");
    work.run(&line.replace("hello:/hello", "app.wat:/app.wat")).ok();
}

#[test]
fn an_archive_keeps_it_and_a_push_sends_it_along() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let name = format!("{}/app:1", registry.address);
    work.run(&format!("build app.wat -t {name} --sbom -o app.tar")).ok();
    work.run("inspect app.tar").ok();
    let pushed = work.run("push app.tar --plain-http --format json").ok().json();
    assert_eq!((&pushed["referrers"], &pushed["referrersCopied"]), (&json!(1), &json!(true)));
    let digest = pushed["digest"].as_str().unwrap();
    assert_eq!(listed(&work, &registry.address, "app", digest).len(), 1);
    work.run("push app.tar --plain-http").ok();
    assert_eq!(listed(&work, &registry.address, "app", digest).len(), 1, "it is listed once");
}

#[test]
fn a_copy_counts_what_refers_to_the_image_and_copies_it_where_that_is_asked_for() {
    let (work, registry, digest) = with_sbom();
    let other = Registry::start();
    let copy = |options: &str| {
        let (from, to) =
            (format!("{}/app:1", registry.address), format!("{}/app:1", other.address));
        work.run(&format!("copy {from} {to} --plain-http {options}")).ok().stdout
    };
    let output = copy("");
    assert!(
        output.contains("1 manifest refers to it") && output.contains("give --referrers"),
        "{output}"
    );
    assert_eq!(listed(&work, &other.address, "app", &digest), [Value::Null; 0]);
    let output = copy("--referrers");
    assert!(output.contains("1 manifest refers to it, copied as well"), "{output}");
    let (before, after) = (
        listed(&work, &registry.address, "app", &digest),
        listed(&work, &other.address, "app", &digest),
    );
    assert_eq!(before, after);
}

#[test]
fn what_refers_to_a_signature_is_copied_too_by_way_of_an_archive() {
    let (work, registry, digest) = with_sbom();
    let sbom = listed(&work, &registry.address, "app", &digest)[0].clone();
    // A signature of the bill of materials, made by hand.
    let empty = json!({ "mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
        "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a" });
    let signature = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": "application/x-signature", "config": empty, "layers": [empty],
        "subject": { "mediaType": sbom["mediaType"], "digest": sbom["digest"], "size": sbom["size"] } });
    put(&registry, "signature", &signature.to_string());
    let pulled = work
        .run(&format!("pull {}/app:signature -o s --plain-http --format json", registry.address));
    let signed = pulled.ok().json();
    let entry = json!({ "mediaType": signature["mediaType"], "digest": signed["digest"], "size": signed["size"] });
    let size = signature.to_string().len();
    let entry = json!({ "size": size, "mediaType": entry["mediaType"], "digest": entry["digest"] });
    let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry] });
    put(&registry, &sbom["digest"].as_str().unwrap().replace(':', "-"), &index.to_string());

    let (from, other) = (format!("{}/app:1", registry.address), Registry::start());
    let line = format!("pull {from} -o all.tar --referrers --plain-http --format json");
    assert_eq!(work.run(&line).ok().json()["referrers"], 2);
    let to = format!("{}/copy:1", other.address);
    let pushed = work.run(&format!("push all.tar {to} --plain-http --format json")).ok().json();
    assert_eq!((&pushed["referrers"], &pushed["digest"]), (&json!(2), &digest.as_str().into()));
    let sbom = sbom["digest"].as_str().unwrap();
    assert_eq!(
        listed(&work, &other.address, "copy", sbom)[0]["artifactType"],
        "application/x-signature"
    );
}

/// Sends a manifest or index.
fn put(registry: &Registry, tag: &str, text: &str) {
    let media_type =
        serde_json::from_str::<Value>(text).unwrap()["mediaType"].as_str().unwrap().to_owned();
    let url = format!("http://{}/v2/app/manifests/{tag}", registry.address);
    let done = std::process::Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--fail",
            "--noproxy",
            "*",
            "--request",
            "PUT",
            "--data-binary",
            text,
        ])
        .args(["--header", &format!("Content-Type: {media_type}"), &url])
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_registry_that_lists_referrers_is_asked_and_no_tag_is_kept_for_it() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let front = Front::start(&registry.address, |line| match line {
        it if it.starts_with("GET /v2/app/referrers/sha256:") => {
            let body = json!({ "schemaVersion": 2, "manifests": null }).to_string();
            Act::Answer(format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
        }
        it if it.starts_with("PUT /v2/app/manifests/sha256:") => {
            let digest = it.rsplit('/').next().unwrap_or_default().to_owned();
            Act::Answer(format!(
                "HTTP/1.1 201 Created\r\nLocation: /v2/app/manifests/{digest}\r\nOCI-Subject: sha256:0\r\n\
                 Content-Length: 0\r\nConnection: close\r\n\r\n"
            ))
        }
        _ => Act::Pass,
    });
    let name = format!("{}/app:1", front.address);
    work.run(&format!("build app.wat -t {name} --sbom --push --plain-http")).ok();
    assert_eq!(front.requests("PUT /v2/app/manifests/sha256-"), 0);
    let copied = work.run(&format!("copy {name} x.tar --plain-http --format json")).ok().json();
    assert_eq!(copied["referrers"], 0);
    let tag = copied["digest"].as_str().unwrap().replace(':', "-");
    assert_eq!(front.requests(&format!("GET /v2/app/manifests/{tag} ")), 0);
}

/// A registry may return a list page by page (RFC 8288). A link to another server must not be followed.
#[test]
fn a_list_of_several_pages_is_read_to_its_end() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let page = |digit: &str, headers: &str| {
        let entry = json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2,
            "digest": format!("sha256:{}", digit.repeat(64)) });
        let body = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
        let length = body.len();
        Act::Answer(format!(
            "HTTP/1.1 200 OK\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
    };
    let front = Front::start(&registry.address, move |line| match line {
        it if it.starts_with("GET /v2/app/referrers/next") => {
            page("2", "Link: <http://127.0.0.1:1/elsewhere>; rel=\"next\"\r\n")
        }
        it if it.starts_with("GET /v2/app/referrers/") => {
            page("1", "Link: </v2/app/referrers/next>; rel=\"next\"\r\n")
        }
        _ => Act::Pass,
    });
    let name = format!("{}/app:1", front.address);
    work.run(&format!("build app.wat -t {name} --push --plain-http")).ok();
    let copied = work.run(&format!("copy {name} x.tar --plain-http --format json")).ok().json();
    assert_eq!(copied["referrers"], 2);
}

/// What cosign before 3 pushes: a manifest without a subject, under a tag that is made from the image's digest.
#[test]
fn signatures_that_a_tag_leads_to_are_copied_as_well() {
    let (work, registry, other) = (Work::new(), Registry::start(), Registry::start());
    work.file("app.wat", COMMAND);
    let name = format!("{}/app:1", registry.address);
    let line = format!("build app.wat -t {name} --push --plain-http --format json");
    let digest = work.run(&line).ok().json()["digest"].as_str().unwrap().to_owned();
    let tag = format!("{}.sig", digest.replace(':', "-"));
    work.file("signature", "by somebody");
    let signature = format!("{}/app:{tag}", registry.address);
    work.run(&format!("build --file signature:/s -t {signature} --push --plain-http")).ok();

    let to = format!("{}/team/app:1", other.address);
    let copy = |from: &str, to: &str| {
        work.run(&format!("copy {from} {to} --plain-http --referrers --format json")).ok().json()
    };
    assert_eq!(copy(&name, "oci:kept")["referrers"], 1);
    work.run("inspect kept").ok();
    assert_eq!(copy("oci:kept", &to)["referrers"], 1);
    let pulled = |name: &str, directory: &str| {
        let line = format!("pull {name} -o {directory} --plain-http --format json");
        work.run(&line).ok().json()["digest"].clone()
    };
    assert_eq!(pulled(&format!("{}/team/app:{tag}", other.address), "a"), pulled(&signature, "b"));
}
