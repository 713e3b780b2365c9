//! Tests with images that CRI knows as one, because they have the same config. A container must run the image that its Pod
//! asks for.

use serde_json::{Value, json};

use super::*;

const FIRST: &str = "registry.example/app:1";
const SECOND: &str = "registry.example/app:2";

/// Wasm that differs from [`MODULE`] by a custom section.
const OTHER: &[u8] = b"\0asm\x01\0\0\0\0\x02\x01x";

/// A containerd with two images of the same config. containerd's own record of a container always names the first image.
struct Fixture {
    daemon: Daemon,
    /// Digest of the config of both images.
    config: String,
    /// Digest of the second image.
    second: String,
}

impl Fixture {
    /// Starts a containerd with two images. Both have the same config, of this type, and each has one of these layers.
    fn new(config: &str, layers: [&[u8]; 2]) -> Fixture {
        let daemon = Daemon::start();
        let mut digests = Vec::new();
        for (name, layer) in [(FIRST, layers[0]), (SECOND, layers[1])] {
            let mut archive = Archive::default();
            let image = archive.image(config, "wasip1/wasm", &[(WASM, layer)]);
            digests.push((archive.config_of(&image), image["digest"].as_str().unwrap().to_owned()));
            daemon.import(&archive.finish(name, image), &["--all-platforms"]);
        }
        assert_eq!(digests[0].0, digests[1].0, "both have the same config");
        let (config, second) = digests.remove(1);
        Fixture { daemon, config, second }
    }

    /// Returns the layer that runs if the Pod's author has written this image name.
    async fn runs(&self, written: &str) -> Result<Vec<u8>, Error> {
        self.daemon.cri_container("c", FIRST, &self.config, written).await;
        let found = resolved(&self.daemon, "/app.wasm").await;
        self.daemon.succeeds(&["containers", "delete", "c"]);
        Ok(content(&mut component(found?).layers().await?[0]))
    }

    async fn refusal(&self, written: &str) -> String {
        self.runs(written).await.expect_err("is refused").to_string()
    }
}

#[tokio::test]
async fn of_two_images_with_one_config_the_one_that_the_pod_names_runs() {
    for config in [CONFIG, "application/vnd.oci.empty.v1+json"] {
        let fixture = Fixture::new(config, [MODULE, OTHER]);
        assert_eq!(fixture.runs(FIRST).await.unwrap(), MODULE);
        assert_eq!(fixture.runs(SECOND).await.unwrap(), OTHER);
        let id = fixture.refusal("").await;
        assert!(id.contains(FIRST) && id.contains(SECOND), "{config}: {id}");
    }
}

#[tokio::test]
async fn an_image_pinned_by_digest_runs() {
    let fixture = Fixture::new(CONFIG, [MODULE, OTHER]);
    let second = &fixture.second;
    for pinned in [format!("registry.example/app@{second}"), format!("{FIRST}@{second}")] {
        assert_eq!(fixture.runs(&pinned).await.unwrap(), OTHER, "{pinned}");
    }
    let gone = format!("registry.example/app@sha256:{}", "0".repeat(64));
    let refused = fixture.refusal(&gone).await;
    assert!(refused.contains("by its digest") && refused.contains(&gone), "{refused}");
}

#[tokio::test]
async fn without_a_name_in_cris_record_two_images_with_one_config_are_refused() {
    let fixture = Fixture::new(CONFIG, [MODULE, OTHER]);
    let refused = fixture.refusal("").await;
    for words in [FIRST, SECOND, &fixture.config, "before 2.0", "wasm-image build"] {
        assert!(refused.contains(words), "no {words:?} in: {refused}");
    }
    fixture.daemon.succeeds(&["images", "delete", "--sync", FIRST]);
    assert_eq!(fixture.runs("").await.unwrap(), OTHER);
}

#[tokio::test]
async fn two_names_with_the_same_layers_are_one_image() {
    let fixture = Fixture::new(CONFIG, [MODULE, MODULE]);
    assert_eq!(fixture.runs("").await.unwrap(), MODULE);
}

#[tokio::test]
async fn moving_a_tag_after_the_request_does_not_change_the_image() {
    let fixture = Fixture::new(CONFIG, [MODULE, OTHER]);
    let mut archive = Archive::default();
    let image = archive.image(CONFIG, "wasip2/wasm", &[(WASM, COMPONENT)]);
    fixture.daemon.import(&archive.finish(SECOND, image), &["--all-platforms"]);
    fixture.daemon.collect_garbage();
    assert_eq!(fixture.runs(SECOND).await.unwrap(), MODULE, "the one image of that config");
}

/// Returns the layer that runs from an index, if CRI made the container from this config.
async fn runs_of(archive: Archive, index: Value, config: &str) -> Vec<u8> {
    let daemon = Daemon::start();
    daemon.import(&archive.finish(FIRST, index), &["--all-platforms"]);
    daemon.cri_container("c", FIRST, config, FIRST).await;
    let component = component(resolved(&daemon, "/app.wasm").await.unwrap());
    content(&mut component.layers().await.unwrap()[0])
}

#[tokio::test]
async fn the_index_entry_that_cri_chose_runs() {
    let mut archive = Archive::default();
    let here = format!("linux/{}", oci_spec::image::Arch::default());
    let linux = archive.image(CONFIG, &here, &[(WASM, OTHER)]);
    let wasm = archive.image(CONFIG, "wasip2/wasm", &[(WASM, MODULE)]);
    let config = archive.config_of(&linux);
    let index = archive.index(&[wasm, linux]);
    assert_eq!(runs_of(archive, index, &config).await, OTHER);
}

#[tokio::test]
async fn a_name_with_a_digest_must_match_its_image() {
    let fixture = Fixture::new(CONFIG, [MODULE, OTHER]);
    let pinned = format!("registry.example/app@{}", fixture.second);
    fixture.daemon.succeeds(&["images", "tag", FIRST, &pinned]);
    assert_eq!(fixture.runs(&pinned).await.unwrap(), OTHER);
}

#[tokio::test]
async fn of_an_index_with_one_config_the_entry_for_the_node_runs() {
    let mut archive = Archive::default();
    let wasm = archive.image(CONFIG, "wasip1/wasm", &[(WASM, MODULE)]);
    let mut linux = archive.image(CONFIG, "wasip1/wasm", &[(WASM, OTHER)]);
    let architecture = oci_spec::image::Arch::default().to_string();
    linux["platform"] = json!({ "os": "linux", "architecture": architecture });
    let config = archive.config_of(&linux);
    let index = archive.index(&[wasm, linux]);
    assert_eq!(runs_of(archive, index, &config).await, OTHER);
}

#[tokio::test]
async fn images_with_one_config_have_separate_code() {
    let fixture = Fixture::new(CONFIG, [MODULE, OTHER]);
    let mut identities = Vec::new();
    for (id, name) in [("c", FIRST), ("d", SECOND)] {
        fixture.daemon.cri_container("c", FIRST, &fixture.config, name).await;
        let found = component(resolved(&fixture.daemon, "/app.wasm").await.unwrap());
        identities.push((id, found.identity()));
        fixture.daemon.succeeds(&["containers", "delete", "c"]);
    }
    assert_ne!(identities[0].1, identities[1].1);
}
