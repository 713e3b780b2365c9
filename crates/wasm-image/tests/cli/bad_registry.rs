//! Registries that are overloaded, broken or dishonest. The test's own server stands in front of a real one.

use crate::front::{Act, Front, answer};
use crate::registry::Registry;
use crate::support::{COMMAND, Work};

/// Misbehaves `times` times for requests that begin like this.
fn first(times: usize, beginning: &'static str, act: Act) -> impl FnMut(&str) -> Act + Send {
    let mut count = 0;
    move |line| {
        count += usize::from(line.starts_with(beginning));
        if line.starts_with(beginning) && count <= times { act.clone() } else { Act::Pass }
    }
}

/// Makes a directory, and a registry that has `app:1`.
fn with_app() -> (Work, Registry) {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    work.run(&format!("build app.wat -t {}/app:1 --push --plain-http", registry.address)).ok();
    (work, registry)
}

/// As [`with_app`], with a layer that takes several reads.
fn with_large() -> (Work, Registry) {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("large", vec![7; 300_000]);
    let line =
        format!("build --file large:/large -t {}/app:1 --push --plain-http", registry.address);
    work.run(&line).ok();
    (work, registry)
}

#[test]
fn an_overloaded_registry_is_given_the_time_it_asks_for() {
    let (work, registry) = with_app();
    let busy = answer("429 Too Many Requests", "Retry-After: 1\r\n", "TOOMANYREQUESTS");
    let front = Front::start(&registry.address, first(2, "GET /v2/app/manifests/1", busy));
    let done = work.run(&format!("pull {}/app:1 -o x.tar --plain-http", front.address)).ok();
    assert_eq!(front.requests("GET /v2/app/manifests/1"), 3);
    assert_eq!(done.stderr.matches("trying again in 1.0 s").count(), 2, "{done:?}");
}

#[test]
fn an_overloaded_registry_is_named_when_patience_ends() {
    let (work, registry) = with_app();
    let busy = answer("503 Service Unavailable", "", "UNAVAILABLE");
    let front = Front::start(&registry.address, first(99, "GET /v2/app/manifests/1", busy));
    let line = format!("pull {}/app:1 -o x.tar --plain-http --retries 1", front.address);
    let error = work.run(&line).fails(6);
    assert_eq!(front.requests("GET /v2/app/manifests/1"), 2);
    let name = format!("{} cannot be used to pull", front.address);
    assert!(
        error.contains(&name) && error.contains("HTTP 503") && error.contains("tried 2 times"),
        "{error}"
    );
    assert!(error.contains("says the test"), "{error}");
    assert!(!work.path("x.tar").exists());
    assert_eq!(work.left(), [""; 0]);
}

#[test]
fn a_wait_of_an_hour_is_not_waited() {
    let (work, registry) = with_app();
    let busy = answer("429 Too Many Requests", "Retry-After: 3600\r\n", "TOOMANYREQUESTS");
    let front = Front::start(&registry.address, first(99, "GET /v2/app/manifests/1", busy));
    let error = work.run(&format!("pull {}/app:1 -o x.tar --plain-http", front.address)).fails(6);
    assert_eq!(front.requests("GET /v2/app/manifests/1"), 1);
    assert!(error.contains("3600 s"), "{error}");
}

#[test]
fn a_download_that_is_cut_goes_on_where_it_was() {
    let (work, registry) = with_large();
    let mut gets = 0;
    let front = Front::start(&registry.address, move |line| {
        gets += usize::from(line.starts_with("GET /v2/app/blobs/"));
        // The first blob is the config, the second the layer.
        if gets == 2 && line.starts_with("GET /v2/app/blobs/") {
            Act::CutAnswer(100_000)
        } else {
            Act::Pass
        }
    });
    work.run(&format!("pull {}/app:1 -o x.tar --plain-http", front.address)).ok();
    let blobs = front.whole("GET /v2/app/blobs/");
    assert_eq!(blobs.len(), 3);
    assert!(blobs[2].to_lowercase().contains("range: bytes=100000-"), "{}", blobs[2]);
}

#[test]
fn an_upload_that_is_cut_is_resumed_or_begun_anew_and_arrives_whole() {
    let (work, registry) = (Work::new(), Registry::start());
    let large: Vec<u8> =
        (0..9_000_000_u32).map(|it| (it.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    work.file("large", &large);
    let mut patches = 0;
    let front = Front::start(&registry.address, move |line| {
        patches += usize::from(line.starts_with("PATCH "));
        if patches == 2 && line.starts_with("PATCH ") {
            Act::CutRequest(1_000_000)
        } else {
            Act::Pass
        }
    });
    let line = format!("build --file large:/large -t {}/app:1 --push --plain-http", front.address);
    let done = work.run(&line).ok();
    assert!(done.stderr.contains("the line was cut"), "{done:?}");
    work.run(&format!("pull {}/app:1 -o x.tar --plain-http", registry.address)).ok();
}

#[test]
fn a_part_that_the_registry_had_no_time_for_is_sent_again_and_no_other() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("large", vec![7; 9_000_000]);
    let busy = answer("503 Service Unavailable", "", "UNAVAILABLE");
    let mut patches = 0;
    let front = Front::start(&registry.address, move |line| {
        patches += usize::from(line.starts_with("PATCH "));
        if patches == 2 && line.starts_with("PATCH ") { busy.clone() } else { Act::Pass }
    });
    let line = format!("build --file large:/large -t {}/app:1 --push --plain-http", front.address);
    work.run(&line).ok();
    let ranges: Vec<String> = front.whole("PATCH ").iter().map(|it| range(it)).collect();
    let (second, third) = ("4194304-8388607".to_owned(), "8388608-9001983".to_owned());
    assert_eq!(ranges, ["0-4194303".to_owned(), second.clone(), second, third]);
}

fn range(head: &str) -> String {
    let line = head
        .lines()
        .find_map(|it| it.to_lowercase().strip_prefix("content-range: ").map(str::to_owned));
    line.unwrap_or_default()
}

#[test]
fn content_that_is_not_what_its_digest_says_is_refused() {
    let (work, registry) = with_app();
    let front = Front::start(&registry.address, first(99, "GET /v2/app/blobs/", Act::Corrupt));
    let error = work.run(&format!("pull {}/app:1 -o x.tar --plain-http", front.address)).fails(1);
    let expected = format!("{}/app has other content for sha256:", front.address);
    assert!(error.contains(&expected), "{error}");
    assert_eq!(front.requests("GET /v2/app/blobs/"), 1, "it is not asked again");
    assert!(!work.path("x.tar").exists());
    assert_eq!(work.left(), [""; 0]);
}

#[test]
fn a_manifest_that_is_not_what_its_digest_says_is_refused() {
    let (work, registry) = with_app();
    let exact =
        work.run(&format!("pull {}/app:1 -o a.tar --plain-http --format json", registry.address));
    let digest = exact.ok().json()["digest"].as_str().unwrap().to_owned();
    let front = Front::start(&registry.address, first(99, "GET /v2/app/manifests/", Act::Corrupt));
    let error =
        work.run(&format!("pull {}/app@{digest} -o x.tar --plain-http", front.address)).fails(1);
    assert!(error.contains(&format!("other content for {digest}")), "{error}");
}

#[test]
fn more_than_the_manifest_states_is_refused() {
    let (work, registry) = with_app();
    let front = Front::start(&registry.address, first(99, "GET /v2/app/blobs/", Act::Longer));
    let error = work.run(&format!("pull {}/app:1 -o x.tar --plain-http", front.address)).fails(1);
    assert!(error.contains("has more than") && error.contains("bytes for sha256:"), "{error}");
    assert_eq!(work.left(), [""; 0]);
}

#[test]
fn a_layer_that_is_stated_to_be_huge_is_refused_before_it_is_got() {
    let (work, registry) = (Work::new(), Registry::start());
    let size = 1_u64 << 40;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{}","size":{size}}},
        "layers":[]}}"#,
        "0".repeat(64)
    );
    let text = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{manifest}",
        manifest.len()
    );
    let front =
        Front::start(&registry.address, first(99, "GET /v2/app/manifests/", Act::Answer(text)));
    let error = work.run(&format!("pull {}/app:1 -o x.tar --plain-http", front.address)).fails(1);
    assert!(error.contains("1099511627776 bytes; allowed is at most 17179869184"), "{error}");
    assert_eq!(front.requests("GET /v2/app/blobs/"), 0);
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    let line = "build app.wat -t 127.0.0.1:1/app:1 --push --plain-http --retries 0";
    let error = work.run(line).fails(6);
    assert!(error.contains("127.0.0.1:1 cannot be used") && error.contains("refused"), "{error}");
}

#[test]
fn a_push_that_was_ended_leaves_nothing_here_and_is_just_repeated() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("large", vec![7; 9_000_000]);
    work.file("small", vec![8; 100]);
    let broken = answer("500 Internal Server Error", "", "UNKNOWN");
    let front = Front::start(&registry.address, first(99, "PATCH ", broken));
    let line = |address: &str| {
        format!(
            "build --file large:/large -t {address}/app:1 --push --plain-http --retries 0 --format json"
        )
    };
    work.run(&line(&front.address)).fails(6);
    assert_eq!(work.left(), [""; 0]);
    let again = work.run(&line(&registry.address)).ok().json();
    assert_eq!((&again["sent"], &again["present"]), (&1.into(), &1.into()));
}

#[test]
fn a_download_that_gets_no_further_than_before_is_given_up() {
    let (work, registry) = with_large();
    let mut gets = 0;
    // Each answer starts from the beginning, and is cut after a thousand and two thousand bytes by turns.
    let front = Front::start(&registry.address, move |line| {
        gets += usize::from(line.starts_with("GET /v2/app/blobs/"));
        if gets < 2 || !line.starts_with("GET /v2/app/blobs/") {
            return Act::Pass;
        }
        let part = "x".repeat(1000 * (1 + gets % 2));
        Act::Answer(format!("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n{part}"))
    });
    let line = format!("pull {}/app:1 -o x.tar --plain-http --retries 2", front.address);
    let error = work.run(&line).fails(6);
    assert!(error.contains("the line was cut") && error.contains("tried 3 times"), "{error}");
    assert!(front.requests("GET /v2/app/blobs/") <= 6, "the config, and two that got further");
}

#[test]
fn a_redirect_to_where_nothing_is_encrypted_is_not_followed() {
    let (work, registry) = with_app();
    let away = "Location: http://192.0.2.1/blob?signature=secret\r\n";
    let away = answer("307 Temporary Redirect", away, "NONE");
    let front = Front::start(&registry.address, first(99, "GET /v2/app/blobs/", away));
    let error = work.run(&format!("pull {}/app:1 -o x.tar --plain-http", front.address)).fails(1);
    let expected =
        format!("{} leads to http://192.0.2.1, where nothing is encrypted", front.address);
    assert!(error.contains(&expected) && !error.contains("secret"), "{error}");
}
