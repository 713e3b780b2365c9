//! Registries that take a large blob in parts, and lose or invent some.

use crate::front::{Act, Front, answer};
use crate::registry::Registry;
use crate::support::Work;

/// Makes a directory with an image that has a blob in three parts, and a registry to push it to.
fn with_large() -> (Work, Registry) {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("large", vec![7; 9_000_000]);
    (work, registry)
}

fn push(front: &Front) -> String {
    format!("build --file large:/large -t {}/app:1 --push --plain-http --retries 2", front.address)
}

/// Refuses every second part, and answers the question about received bytes with `asked`.
fn losing(asked: Act) -> impl FnMut(&str) -> Act + Send {
    let mut parts = 0;
    move |line| {
        parts += usize::from(line.starts_with("PATCH "));
        match line {
            it if it.starts_with("PATCH ") && parts % 2 == 0 => {
                answer("503 Service Unavailable", "", "UNAVAILABLE")
            }
            it if it.starts_with("GET /v2/app/blobs/uploads/") => asked.clone(),
            _ => Act::Pass,
        }
    }
}

#[test]
fn a_registry_that_forgets_what_it_took_is_given_up() {
    let (work, registry) = with_large();
    let forgot = answer("404 Not Found", "", "BLOB_UPLOAD_UNKNOWN");
    let front = Front::start(&registry.address, losing(forgot));
    let error = work.run(&push(&front)).fails(6);
    assert!(error.contains("HTTP 503") && error.contains("tried 3 times"), "{error}");
    assert_eq!(front.requests("PATCH "), 6, "three times the first part and the second");
}

#[test]
fn a_registry_that_claims_to_have_more_than_there_is_is_refused() {
    let (work, registry) = with_large();
    let range = "Location: /v2/app/blobs/uploads/x\r\nRange: 0-99999999\r\n";
    let front = Front::start(&registry.address, losing(answer("204 No Content", range, "NONE")));
    let error = work.run(&push(&front)).fails(1);
    let expected = format!("{}/app has 100000000 bytes for sha256:", front.address);
    assert!(error.contains(&expected), "{error}");
    assert_eq!(front.requests("PUT "), 1, "the config alone is there");
}

#[test]
fn an_upload_is_not_sent_to_where_nothing_is_encrypted() {
    let (work, registry) = with_large();
    let away = answer("202 Accepted", "Location: http://192.0.2.1/upload\r\n", "NONE");
    let front = Front::start(&registry.address, move |line| match line {
        it if it.starts_with("POST ") => away.clone(),
        _ => Act::Pass,
    });
    let error = work.run(&push(&front)).fails(1);
    let expected =
        format!("{} leads to http://192.0.2.1, where nothing is encrypted", front.address);
    assert!(error.contains("cannot push sha256:") && error.contains(&expected), "{error}");
}
