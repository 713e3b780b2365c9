//! Images that CRI takes for one, because they have the same config: a container runs the one that its Pod asks for.

use serde_json::{Value, json};

use super::*;

const FIRST: &str = "registry.example/app:1";
const SECOND: &str = "registry.example/app:2";

/// Wasm that differs from [`MODULE`] by a custom section.
const OTHER: &[u8] = b"\0asm\x01\0\0\0\0\x02\x01x";

/// What becomes of a container of CRI's: containerd's own record always names the first image.
struct Fixture {
    daemon: Daemon,
    /// The digest of the config of each image.
    config: String,
    /// The digest of the second image.
    second: String,
}

impl Fixture {
    /// A containerd with two images of one config, of that type and with these layers.
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

    /// What runs where the Pod's author wrote this.
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
async fn of_two_images_with_one_config_the_one_runs_that_the_pod_names() {
    for config in [CONFIG, "application/vnd.oci.empty.v1+json"] {
        let fixture = Fixture::new(config, [MODULE, OTHER]);
        assert_eq!(fixture.runs(FIRST).await.unwrap(), MODULE);
        assert_eq!(fixture.runs(SECOND).await.unwrap(), OTHER);
        let id = fixture.refusal("").await;
        assert!(id.contains(FIRST) && id.contains(SECOND), "{config}: {id}");
    }
}

#[tokio::test]
async fn an_image_that_is_pinned_by_its_digest_is_that_image() {
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
async fn where_cri_tells_the_config_alone_two_images_of_it_are_refused_and_named() {
    let fixture = Fixture::new(CONFIG, [MODULE, OTHER]);
    let refused = fixture.refusal("").await;
    for words in [FIRST, SECOND, &fixture.config, "before 2.0", "wasm-image build"] {
        assert!(refused.contains(words), "no {words:?} in: {refused}");
    }
    fixture.daemon.succeeds(&["images", "delete", "--sync", FIRST]);
    assert_eq!(fixture.runs("").await.unwrap(), OTHER);
}

#[tokio::test]
async fn two_names_of_the_same_layers_are_one_image() {
    let fixture = Fixture::new(CONFIG, [MODULE, MODULE]);
    assert_eq!(fixture.runs("").await.unwrap(), MODULE);
}

#[tokio::test]
async fn a_tag_that_was_moved_meanwhile_does_not_change_what_kubelet_asked_for() {
    let fixture = Fixture::new(CONFIG, [MODULE, OTHER]);
    let mut archive = Archive::default();
    let image = archive.image(CONFIG, "wasip2/wasm", &[(WASM, COMPONENT)]);
    fixture.daemon.import(&archive.finish(SECOND, image), &["--all-platforms"]);
    fixture.daemon.collect_garbage();
    assert_eq!(fixture.runs(SECOND).await.unwrap(), MODULE, "the one image of that config");
}

/// What runs of an index with these images, where CRI has made the container of that config.
async fn runs_of(archive: Archive, index: Value, config: &str) -> Vec<u8> {
    let daemon = Daemon::start();
    daemon.import(&archive.finish(FIRST, index), &["--all-platforms"]);
    daemon.cri_container("c", FIRST, config, FIRST).await;
    let component = component(resolved(&daemon, "/app.wasm").await.unwrap());
    content(&mut component.layers().await.unwrap()[0])
}

#[tokio::test]
async fn of_an_index_the_entry_runs_that_cri_took() {
    let mut archive = Archive::default();
    let here = format!("linux/{}", oci_spec::image::Arch::default());
    let linux = archive.image(CONFIG, &here, &[(WASM, OTHER)]);
    let wasm = archive.image(CONFIG, "wasip2/wasm", &[(WASM, MODULE)]);
    let config = archive.config_of(&linux);
    let index = archive.index(&[wasm, linux]);
    assert_eq!(runs_of(archive, index, &config).await, OTHER);
}

#[tokio::test]
async fn a_name_with_a_digest_that_is_another_image_s_is_not_believed() {
    let fixture = Fixture::new(CONFIG, [MODULE, OTHER]);
    let pinned = format!("registry.example/app@{}", fixture.second);
    fixture.daemon.succeeds(&["images", "tag", FIRST, &pinned]);
    assert_eq!(fixture.runs(&pinned).await.unwrap(), OTHER);
}

#[tokio::test]
async fn of_an_index_with_one_config_for_all_the_node_s_entry_runs() {
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
async fn code_of_images_with_one_config_is_kept_apart() {
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
