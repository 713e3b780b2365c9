//! Registries that cannot be reached as requested: their certificate is not trusted, they speak no TLS, or a proxy is
//! in between. None of these faults passes by itself, so the program must not try again.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use crate::registry::Registry;
use crate::support::{COMMAND, Work};

/// Makes a directory with an image, and a registry with a certificate of its own authority.
fn with_tls() -> (Work, Registry, String) {
    let (work, registry) = (Work::new(), Registry::with_tls());
    work.file("app.wat", COMMAND);
    let line = format!("build app.wat -t {}/app:1 --push", registry.address);
    (work, registry, line)
}

#[test]
fn an_authority_that_is_not_trusted_is_no_reason_to_try_later() {
    let (work, registry, line) = with_tls();
    let done = work.run(&line);
    assert!(!done.stderr.contains("trying again"), "{done:?}");
    let error = done.fails(1);
    let expected = format!("there is no TLS with {}: its certificate is signed", registry.address);
    assert!(error.contains(&expected), "{error}");
    assert!(error.contains("--ca-file FILE") && error.contains("SSL_CERT_FILE"), "{error}");
}

#[test]
fn an_authority_is_named_by_an_option_or_by_the_environment() {
    let (work, registry, line) = with_tls();
    let authority = registry.file("ca.pem");
    work.run_with(&line, &[("SSL_CERT_FILE", &authority)]).ok();
    let named = format!("--ca-file {}", authority.display());
    work.run(&format!("{line} {named}")).ok();
    let name = format!("{}/app:1", registry.address);
    let other = Registry::start();
    let copy = format!("copy {name} {}/app:1 --to-plain-http", other.address);
    work.run(&copy).fails(1);
    work.run(&format!("{copy} --from-{}", named.trim_start_matches("--"))).ok();
    work.run(&format!("inspect {name} {named}")).ok();

    let error = work.run(&format!("{line} --ca-file app.wat")).fails(2);
    assert!(error.contains("no certificate in PEM form"), "{error}");
    work.run(&format!("{line} --ca-file no-such.pem")).fails(3);
}

#[test]
fn a_certificate_for_another_name_is_not_accepted() {
    let (work, registry, _) = with_tls();
    let port = registry.address.rsplit(':').next().unwrap();
    let authority = registry.file("ca.pem");
    let line = format!("build app.wat -t 127.0.0.2:{port}/app:1 --push");
    let done = work.run_with(&line, &[("SSL_CERT_FILE", &authority)]);
    // On some kernels, the registry only listens on 127.0.0.1.
    if done.code != 6 {
        let error = done.fails(1);
        assert!(error.contains("there is no TLS") && error.contains("127.0.0.2"), "{error}");
    }
}

#[test]
fn tls_to_a_plain_port_fails_at_once() {
    let (work, registry) = (Work::new(), Registry::start());
    work.file("app.wat", COMMAND);
    let done = work.run(&format!("build app.wat -t {}/app:1 --push", registry.address));
    assert!(!done.stderr.contains("trying again"), "{done:?}");
    let error = done.fails(1);
    assert!(error.contains("it does not speak TLS") && error.contains("--plain-http"), "{error}");
}

#[test]
fn plain_http_to_a_port_with_tls_fails_at_once() {
    let (work, _registry, line) = with_tls();
    let done = work.run(&format!("{line} --plain-http"));
    assert!(!done.stderr.contains("trying again"), "{done:?}");
    let error = done.fails(1);
    assert!(error.contains("HTTP 400") && error.contains("omit --plain-http"), "{error}");
}

#[test]
fn a_server_without_http_fails_at_once() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let _ = connection.read(&mut [0; 1024]);
        connection.write_all(b"220 mail.example ESMTP\r\n").unwrap();
    });
    let line = format!("build app.wat -t {address}/app:1 --push --plain-http");
    let error = work.run(&line).fails(1);
    assert!(error.contains("it does not speak HTTP"), "{error}");
    server.join().unwrap();
}

#[test]
fn a_proxy_is_named_and_not_its_password() {
    let work = Work::new();
    work.file("app.wat", COMMAND);
    let line = "build app.wat -t registry.invalid/app:1 --push --retries 0";
    let proxy = Path::new("http://user:secret@127.0.0.1:1");
    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let error = work.run_with(line, &[(variable, proxy)]).fails(6);
        assert!(error.contains("by way of the proxy http://127.0.0.1:1"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let variables = [("HTTPS_PROXY", proxy), ("NO_PROXY", Path::new("registry.invalid"))];
    let error = work.run_with(line, &variables).fails(6);
    assert!(!error.contains("proxy"), "{error}");
}

#[test]
fn a_registry_on_this_machine_is_not_behind_a_proxy() {
    let (work, registry, line) = with_tls();
    let authority = registry.file("ca.pem");
    let proxy = Path::new("http://127.0.0.1:1");
    for variable in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        work.run_with(&line, &[(variable, proxy), ("SSL_CERT_FILE", &authority)]).ok();
        let plain = Registry::start();
        let line = format!("build app.wat -t {}/app:1 --push --plain-http", plain.address);
        work.run_with(&line, &[(variable, proxy)]).ok();
    }
}
