//! Registries that require credentials.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::front::{Act, Front, answer};
use crate::registry::Registry;
use crate::support::{COMMAND, Work};

/// `ci:secret` in the form of `docker login`.
const AUTH: &str = "Y2k6c2VjcmV0";

#[test]
fn without_credentials_it_is_said_where_to_log_in() {
    let (work, registry) = (Work::new(), Registry::with_password());
    work.file("app.wat", COMMAND);
    let name = format!("{}/app:1", registry.address);
    let error = work.run(&format!("build app.wat -t {name} --push --plain-http")).fails(4);
    let advice = format!("docker login {}", registry.address);
    assert!(
        error.contains("HTTP 401") && error.contains("anybody") && error.contains(&advice),
        "{error}"
    );
    work.run(&format!("pull {name} -o x.tar --plain-http")).fails(4);
}

#[test]
fn credentials_of_docker_and_podman_are_found() {
    let (work, registry) = (Work::new(), Registry::with_password());
    work.file("app.wat", COMMAND);
    let config = format!(r#"{{"auths": {{"{}": {{"auth": "{AUTH}"}}}}}}"#, registry.address);
    work.file("ci/config.json", &config);
    work.file("run/containers/auth.json", &config);
    let push = |tag: &str, variable: &str, directory: &str| {
        let line = format!("build app.wat -t {}/app:{tag} --push --plain-http", registry.address);
        work.run_with(&line, &[(variable, &work.path(directory))]).ok()
    };
    push("1", "DOCKER_CONFIG", "ci");
    push("2", "XDG_RUNTIME_DIR", "run");
    work.file(".docker/config.json", &config);
    push("3", "UNRELATED", "none");
}

#[test]
fn a_credential_helper_is_asked() {
    let (work, registry) = (Work::new(), Registry::with_password());
    work.file("app.wat", COMMAND);
    let script = "#!/bin/sh\nread server\necho \"{\\\"ServerURL\\\":\\\"$server\\\",\\\"Username\\\":\\\"ci\\\",\\\"Secret\\\":\\\"secret\\\"}\"\n";
    let helper = work.file("bin/docker-credential-tests", script);
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", work.path("bin").display(), std::env::var("PATH").unwrap());
    let line = format!("build app.wat -t {}/app:1 --push --plain-http", registry.address);
    for (tool, expected) in [("credHelpers", 0), ("credsStore", 0), ("nothing", 4)] {
        let config = match tool {
            "credHelpers" => format!(r#"{{"credHelpers": {{"{}": "tests"}}}}"#, registry.address),
            "credsStore" => r#"{"credsStore": "tests"}"#.to_owned(),
            _ => "{}".to_owned(),
        };
        work.file(".docker/config.json", config);
        let done = work.run_with(&line, &[("PATH", path.as_ref())]);
        assert_eq!(done.code, expected, "{tool}: {done:?}");
    }
}

#[test]
fn the_error_for_a_wrong_password_names_the_file_it_is_from() {
    let (work, registry) = (Work::new(), Registry::with_password());
    work.file("app.wat", COMMAND);
    // This is ci:wrong.
    let config = format!(r#"{{"auths": {{"{}": {{"auth": "Y2k6d3Jvbmc="}}}}}}"#, registry.address);
    let file = work.file(".docker/config.json", config);
    let line = format!("build app.wat -t {}/app:1 --push --plain-http", registry.address);
    let done = work.run(&line);
    assert!(!done.stderr.contains("wrong"), "the password is shown: {done:?}");
    let error = done.fails(4);
    assert!(error.contains("user ci") && error.contains(&file.display().to_string()), "{error}");
}

/// The test provides the token service and the answer that asks for the token. The registry behind accepts everybody.
#[test]
fn a_token_is_fetched_and_fetched_anew_when_it_has_expired() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let mut heads = 0;
    let front = Front::start(&registry.address, move |line| {
        let challenge =
            "Www-Authenticate: Bearer realm=\"http://HOST/token\",service=\"tests\"\r\n";
        if line.starts_with("GET /token") {
            let body = r#"{"token":"good"}"#;
            return Act::Answer(format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ));
        }
        heads += usize::from(line.starts_with("HEAD "));
        match line {
            "GET /v2/" => answer("401 Unauthorized", challenge, "UNAUTHORIZED"),
            line if line.starts_with("HEAD ") && heads == 2 => {
                answer("401 Unauthorized", challenge, "UNAUTHORIZED")
            }
            _ => Act::Pass,
        }
    });
    let line = format!("build app.wat -t {}/app:1 --push --plain-http", front.address);
    work.run(&line).ok();
    assert_eq!(front.requests("GET /token"), 2);
    let puts = front.whole("PUT /v2/app/manifests/1");
    assert!(puts[0].to_lowercase().contains("authorization: bearer good"), "{puts:?}");
}
