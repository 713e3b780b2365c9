//! Servers that are not registries: a proxy's page, a portal, a web server. Their answers are not trusted.

use crate::front::{Act, Front};
use crate::registry::Registry;
use crate::support::{COMMAND, Work};

const PAGE: &str = "<!DOCTYPE html>\n<html>Welcome</html>\n";

/// Returns a web page with that status and further headers.
fn page(status: &str, headers: &str) -> Act {
    Act::Answer(format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html\r\n{headers}Content-Length: {}\r\n\
         Connection: close\r\n\r\n{PAGE}",
        PAGE.len()
    ))
}

/// Makes a directory, and a front that answers matching requests with a page.
fn with_page(beginning: &'static str, status: &'static str) -> (Work, Registry, Front) {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let front = Front::start(&registry.address, move |line| match line {
        it if it.starts_with(beginning) => page(status, ""),
        _ => Act::Pass,
    });
    (work, registry, front)
}

fn push(work: &Work, front: &Front) -> crate::support::Done {
    work.run(&format!("build app.wat -t {}/app:1 --push --plain-http", front.address))
}

#[test]
fn a_server_that_answers_all_with_a_page_has_taken_nothing() {
    let (work, _registry, front) = with_page("", "200 OK");
    let error = push(&work, &front).fails(1);
    let expected = format!("{} does not answer as a registry does: HTTP 200 ok", front.address);
    assert!(error.contains(&expected) && error.contains("\"<!DOCTYPE html>\""), "{error}");
    assert!(error.contains("expected is HTTP 202"), "{error}");
    assert_eq!(front.requests("POST "), 1, "it is not asked again");
}

#[test]
fn a_page_with_201_has_taken_nothing_either() {
    let (work, _registry, front) = with_page("", "201 Created");
    let error = push(&work, &front).fails(1);
    assert!(error.contains("does not answer as a registry does"), "{error}");
}

#[test]
fn a_blob_is_not_there_because_something_answers_200() {
    let (work, registry, front) = with_page("HEAD ", "200 OK");
    push(&work, &front).ok();
    assert_eq!(registry.requests("PUT /v2/app/blobs/uploads/"), 2);
    work.run(&format!("pull {}/app:1 -o app.tar --plain-http", registry.address)).ok();
}

#[test]
fn another_blob_in_its_place_is_an_error() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let digest = format!("Docker-Content-Digest: sha256:{}\r\n", "0".repeat(64));
    let front = Front::start(&registry.address, move |line| match line {
        it if it.starts_with("HEAD ") => page("200 OK", &digest),
        _ => Act::Pass,
    });
    let error = push(&work, &front).fails(1);
    assert!(error.contains("expected is the digest sha256:"), "{error}");
}

#[test]
fn a_blob_is_sent_once_the_registry_says_that_it_has_it() {
    for (beginning, status) in [
        ("PUT /v2/app/blobs/", "200 OK"),
        ("PUT /v2/app/blobs/", "201 Created"),
        ("PUT /v2/app/manifests/", "200 OK"),
        ("PUT /v2/app/manifests/", "201 Created"),
    ] {
        let (work, _registry, front) = with_page(beginning, status);
        let error = push(&work, &front).fails(1);
        assert!(error.contains("expected is HTTP 201 with a location or the digest"), "{error}");
    }
}

#[test]
fn a_part_is_sent_once_the_registry_says_that_it_took_it() {
    let (work, _registry, front) = with_page("PATCH ", "200 OK");
    work.file("large", vec![7; 5_000_000]);
    let line = format!("build --file large:/large -t {}/app:1 --push --plain-http", front.address);
    let error = work.run(&line).fails(1);
    assert!(error.contains("expected is HTTP 202 to a part"), "{error}");
}

#[test]
fn a_page_is_no_manifest() {
    let (work, _registry, front) = with_page("GET /v2/app/manifests/", "200 OK");
    let error = work.run(&format!("pull {}/app:1 -o x.tar --plain-http", front.address)).fails(1);
    assert!(error.contains("\"<!DOCTYPE html>\" is not a manifest"), "{error}");
    assert!(!work.path("x.tar").exists());
}

#[test]
fn a_refusal_that_no_registry_writes_is_quoted() {
    let (work, _registry, front) = with_page("POST ", "418 I'm a teapot");
    let error = push(&work, &front).fails(1);
    assert!(error.contains("HTTP 418") && error.contains("\"<!DOCTYPE html>\""), "{error}");
}

/// Amazon's registry answers a part with 201, and Quay's a manifest with 202.
#[test]
fn registries_that_give_another_status_of_success_are_understood() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let front = Front::start(&registry.address, move |line| match line {
        it if it.starts_with("PUT /v2/app/manifests/") => {
            page("202 Accepted", "Location: /v2/app/manifests/1\r\n")
        }
        _ => Act::Pass,
    });
    push(&work, &front).ok();
}
