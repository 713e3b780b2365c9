//! Destinations of sockets and requests.

use std::net::UdpSocket;
use std::os::unix::fs::symlink;

use anyhow::{Context, Result};
use tests::{Container, Pod, RunningPod, on_each_containerd};

use super::policy::write_policy;
use super::{
    CONNECT, HTTP, METADATA, OTHER, PARTIAL, PROFILE, SERVER, STOCK, Server, assert_denied,
    connected, hosts, is_reached, number, run, under_policy,
};
use crate::pod::PORT;

const KEYVALUE: &str = "wasmtime.shim/keyvalue";

/// A range with the metadata service, which it does not name.
const METADATA_RANGE: &str = "169.254.0.0/16";

#[test]
fn the_metadata_service_of_a_cloud_is_denied_by_default_and_nothing_else_is() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("default"))?;
        let _server = Server::start(&pod)?;
        let hosts = hosts(node)?;
        for host in [METADATA, "rebound"] {
            let target = format!("{host}:{SERVER}");
            let answer = connected(node, &pod, &hosts, &target)?;
            let line = format!(
                "denied: TCP connection to {METADATA}:{SERVER}: a metadata service of clouds, which the profile \
                 baseline forbids; only the ceiling of the node's policy can allow it\n"
            );
            assert_denied(&answer, &[&line]);
        }
        for host in [OTHER, "redis", "127.0.0.1"] {
            let answer = connected(node, &pod, &hosts, &format!("{host}:{SERVER}"))?;
            assert!(is_reached(&answer), "{host}: {answer:?}");
        }
        Ok(())
    })
}

#[test]
fn a_pod_that_names_destinations_reaches_no_others() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        for (handler, name) in [("wasmtime", "named"), (STOCK, "named-stock")] {
            let granted = format!("redis:{SERVER}, rebound:{SERVER}, 127.0.0.0/8:{SERVER}");
            let pod = Pod::new(name).handler(handler).annotation(CONNECT, &granted);
            let pod = node.run_pod(&pod)?;
            let _server = Server::start(&pod)?;
            let try_to = |host: &str| connected(node, &pod, &hosts, &format!("{host}:{SERVER}"));
            for host in ["redis", "127.0.0.1"] {
                let answer = try_to(host)?;
                assert!(is_reached(&answer), "{host}: {answer:?}");
            }
            // The same address without the name, and by another one.
            for host in [OTHER, "other"] {
                let grant = format!("not granted; {CONNECT} \"{OTHER}:{SERVER}\" would allow it");
                assert_denied(&try_to(host)?, &[&grant]);
            }
            assert_denied(&try_to("rebound")?, &["a metadata service of clouds"]);
            let port = connected(node, &pod, &hosts, "127.0.0.1:22")?;
            assert_denied(&port, &["TCP connection to 127.0.0.1:22: not granted"]);
        }
        Ok(())
    })
}

#[test]
fn a_guest_with_a_grant_of_a_name_does_not_choose_what_the_name_means() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.image("hello")?;
        let redis = format!("redis:{SERVER}");
        let address = format!("{OTHER}:{SERVER}");
        // The runtime connects to this one.
        let store = format!("redis://{redis}/0");
        // Who may reach an address gains nothing by a name.
        for (name, key, value, is_free) in [
            ("fixed", CONNECT, &redis, false),
            ("stored", KEYVALUE, &store, false),
            ("free", CONNECT, &address, true),
        ] {
            let hosts = hosts(node)?;
            let before = std::fs::read_to_string(&hosts)?;
            let pod = node.run_pod(&Pod::new(name).annotation(key, value))?;
            let guest = |words: &[&str]| {
                let container = Container::new(&number(name), &image).args(words);
                run(&pod, container.mount(&hosts, "/etc/hosts"))
            };
            let (code, logs) = guest(&["cat", "/etc/hosts"])?;
            assert_eq!((code, logs.stdout.as_str()), (0, before.as_str()), "{logs:?}");
            let (code, logs) = guest(&["rename", "/etc", "/elsewhere"])?;
            assert_eq!(code == 0, is_free, "{name}: {logs:?}");
            let (code, logs) = guest(&["rename", "/etc/hosts", "/etc/other"])?;
            assert_eq!(code, 1, "{name}: {logs:?}");
            let (code, logs) = guest(&["write", "/etc/hosts", "127.0.0.1 redis"])?;
            assert_eq!(code == 0, is_free, "{name}: {logs:?}");
            assert_eq!(std::fs::read_to_string(&hosts)? == before, !is_free, "{name}");
            // Everything else is as it was.
            let (code, logs) = guest(&["write", "/etc/new", "text"])?;
            assert_eq!(code, 0, "{name}: {logs:?}");
        }
        Ok(())
    })
}

#[test]
fn an_image_with_a_link_in_place_of_its_hosts_is_refused_to_a_guest_with_a_grant_of_a_name()
-> Result<()> {
    on_each_containerd(|node| {
        let etc = node.volume("linked")?;
        std::fs::write(etc.join("elsewhere"), "")?;
        symlink("elsewhere", etc.join("hosts"))?;
        let container = Container::new("linked", &node.image("hello")?).mount(&etc, "/etc");
        let redis = format!("redis:{SERVER}");
        let pod = node.run_pod(&Pod::new("linked").annotation(CONNECT, &redis))?;
        let refused = format!("{:#}", pod.run(&container).map(drop).err().context("it runs")?);
        let expected = r#"cannot keep "/etc/hosts" as it is for a guest with names in its grants: "/etc/hosts" is a link"#;
        assert!(refused.contains(expected), "{refused}");
        let (code, logs) = run(&node.run_pod(&Pod::new("unnamed"))?, container)?;
        assert_eq!(code, 0, "{logs:?}");
        Ok(())
    })
}

#[test]
fn a_restricted_guest_looks_up_only_granted_names() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        let pod = Pod::new("restricted").annotation(PROFILE, "restricted");
        let pod = node.run_pod(&pod.annotation(CONNECT, &format!("redis:{SERVER}")))?;
        let _server = Server::start(&pod)?;
        let try_to = |host: &str| connected(node, &pod, &hosts, &format!("{host}:{SERVER}"));
        assert!(is_reached(&try_to("redis")?));
        assert_denied(&try_to("other")?, &["look-up of the name \"other\": not granted"]);
        assert_denied(&try_to("127.0.0.1")?, &["not granted"]);
        // It has no files either, which a guest of another Pod has.
        let cat = |pod: &RunningPod<'_>| {
            let container = Container::new(&number("cat"), &node.image("hello")?);
            run(pod, container.args(&["cat", "/etc/hosts"]).readonly_mount(&hosts, "/etc/hosts"))
        };
        let (code, logs) = cat(&node.run_pod(&Pod::new("unrestricted"))?)?;
        assert!(code == 0 && logs.stdout.contains("redis"), "{logs:?}");
        let (code, logs) = cat(&pod)?;
        assert_eq!((code, logs.stdout.as_str()), (1, ""), "{logs:?}");
        assert!(logs.stderr.contains("No such file"), "{logs:?}");
        Ok(())
    })
}

/// An address of this node: the one from which it would send to another machine. Nothing is sent.
fn own_address() -> Result<String> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect((OTHER, SERVER))?;
    Ok(socket.local_addr()?.ip().to_string())
}

#[test]
fn a_restricted_guest_reaches_the_node_and_loopback_only_by_their_addresses() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        let pod = Pod::new("wide").annotation(PROFILE, "restricted");
        let pod = node.run_pod(&pod.annotation(CONNECT, &format!("*:{SERVER}, 127.0.0.1:*")))?;
        let _server = Server::start(&pod)?;
        let try_to = |host: &str| connected(node, &pod, &hosts, &format!("{host}:{SERVER}"));
        for host in ["redis", OTHER, "127.0.0.1"] {
            let answer = try_to(host)?;
            assert!(is_reached(&answer), "{host}: {answer:?}");
        }
        assert_denied(&try_to(&own_address()?)?, &["an address of the node"]);
        for host in ["127.0.0.2", "169.254.20.10"] {
            assert_denied(&try_to(host)?, &["a link-local or loopback address"]);
        }
        assert_denied(&try_to(METADATA)?, &["a metadata service of clouds"]);
        Ok(())
    })
}

#[test]
fn datagrams_and_sockets_that_listen_are_held_to_their_grants() -> Result<()> {
    on_each_containerd(|node| {
        let granted = format!("{OTHER}:{SERVER}/udp, {METADATA_RANGE}:{SERVER}/udp");
        let pod = Pod::new("sockets").annotation(CONNECT, &granted);
        let pod = pod.annotation("wasmtime.shim/allow-listen", "127.0.0.1:9000-9001, 9002");
        let pod = node.run_pod(&pod)?;
        let _server = Server::start(&pod)?;
        let image = node.image("hello-p3")?;
        let guest =
            |words: &[&str]| run(&pod, Container::new(&number("sockets"), &image).args(words));
        let to = |host: &str| format!("{host}:{SERVER}");
        for (words, stdout) in [
            (["udp-send", &to(OTHER)], "sent\n"),
            (["tcp-listen", "127.0.0.1:9001"], "listening\n"),
            (["tcp-listen", "0.0.0.0:9002"], "listening\n"),
        ] {
            let (code, logs) = guest(&words)?;
            assert_eq!((code, logs.stdout.as_str()), (0, stdout), "{words:?}: {logs:?}");
        }
        for (words, reason) in [
            (["udp-send", "127.0.0.1:9"], "UDP datagram to or from 127.0.0.1:9: not granted"),
            (["udp-send", &to(METADATA)], "a metadata service of clouds"),
            (["tcp-connect", &to(OTHER)], "TCP connection to 192.0.2.7:8123: not granted"),
            (["tcp-listen", "0.0.0.0:9001"], "TCP socket that listens at 0.0.0.0:9001"),
            (["tcp-listen", "127.0.0.1:9003"], "TCP socket that listens at 127.0.0.1:9003"),
        ] {
            let (code, logs) = guest(&words)?;
            assert_eq!((code, logs.stdout.as_str()), (1, ""), "{words:?}: {logs:?}");
            for part in ["AccessDenied", "denied: ", reason] {
                assert!(logs.stderr.contains(part), "no {part} in {logs:?}");
            }
        }
        Ok(())
    })
}

#[test]
fn a_pods_profile_counts_even_if_containerd_passes_only_other_annotations_on() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        let pod = Pod::new("partial").handler(PARTIAL).annotation(PROFILE, "restricted");
        let pod = node.run_pod(&pod.annotation("wasmtime.shim/http-max-requests", "7"))?;
        let _server = Server::start(&pod)?;
        let answer = connected(node, &pod, &hosts, &format!("{OTHER}:{SERVER}"))?;
        assert_denied(&answer, &["not granted"]);
        Ok(())
    })
}

#[test]
fn a_request_goes_to_granted_hosts_at_the_addresses_that_were_checked() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        let granted = format!("http://redis:{SERVER}, http://rebound:{SERVER}");
        let pod = node.run_pod(&Pod::new("requests").annotation(HTTP, &granted))?;
        let _server = Server::start(&pod)?;
        let image = node.image("hello-http")?;
        let server = Container::new("server", &image).readonly_mount(&hosts, "/etc/hosts");
        let server = pod.run(&server)?;
        let fetch = |url: &str| -> Result<(u16, String)> {
            let answer = pod.http_get(PORT, &format!("/fetch?url=http://{url}"))?;
            Ok((answer.status, answer.body))
        };
        let reached = (200, "200\nreached\n".to_owned());
        // Twice: the second one may use a connection that was kept.
        for _ in 0..2 {
            assert_eq!(fetch(&format!("redis:{SERVER}/"))?, reached);
        }
        let (status, reason) = fetch(&format!("redis:{SERVER}/moved/{METADATA}"))?;
        assert_eq!((status, reason.contains("HttpRequestDenied")), (502, true), "{reason}");
        let mapped = format!("[::ffff:{METADATA}]");
        for host in [METADATA, &mapped, "rebound", "other", OTHER, "127.0.0.1"] {
            let (status, reason) = fetch(&format!("{host}:{SERVER}/"))?;
            assert_eq!(status, 502, "{host}: {reason}");
            assert!(reason.contains("HttpRequestDenied"), "{host}: {reason}");
        }
        assert!(fetch("redis:9/")?.1.contains("HttpRequestDenied"));
        for line in [
            format!(
                "denied: HTTP request to http://other:{SERVER}: not granted; {HTTP} \"http://other:{SERVER}\""
            ),
            format!(
                "denied: HTTP request to http://rebound:{SERVER} at {METADATA}: a metadata service"
            ),
        ] {
            server.wait_for_error(&line)?;
        }
        // A refusal is reported once.
        let lines = server.logs()?.stderr;
        assert_eq!(lines.matches("to http://other:").count(), 1, "{lines}");
        Ok(())
    })
}

#[test]
fn a_redirect_leads_to_granted_hosts_alone() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        let pod = Pod::new("redirects").annotation(HTTP, &format!("http://redis:{SERVER}"));
        let pod = node.run_pod(&pod)?;
        let service = Server::start(&pod)?;
        let server = Container::new("server", &node.image("hello-http")?);
        let server = pod.run(&server.readonly_mount(&hosts, "/etc/hosts"))?;
        let moved_to = |host: &str| {
            let path = format!("/fetch?url=http://redis:{SERVER}/moved/{host}");
            pod.http_get(PORT, &path)
        };
        let answer = moved_to("redis")?;
        assert_eq!((answer.status, answer.body.as_str()), (200, "200\nreached\n"));
        // Another name of the same address, the address itself, and an address that nothing forbids.
        for host in ["other", OTHER, "127.0.0.1"] {
            let before = service.reached().len();
            let answer = moved_to(host)?;
            assert_eq!(answer.status, 502, "{host}: {}", answer.body);
            assert!(answer.body.contains("HttpRequestDenied"), "{host}: {}", answer.body);
            server.wait_for_error(&format!(
                "denied: HTTP request to http://{host}:{SERVER}: not granted"
            ))?;
            assert_eq!(
                service.reached().len(),
                before + 1,
                "{host}: the redirect was not followed"
            );
        }
        Ok(())
    })
}

#[test]
fn a_privileged_guest_reaches_the_metadata_service_that_others_do_not() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        write_policy(node, "[ceiling]\nprofile = \"privileged\"\n")?;
        let image = node.image("hello-http")?;
        for (profile, is_allowed) in [(Some("privileged"), true), (None, false)] {
            let annotations = profile.map(|profile| (PROFILE, profile));
            let pod = under_policy(node, annotations.as_slice())?;
            let service = Server::start(&pod)?;
            pod.run(&Container::new("server", &image))?;
            let fetched = pod.http_get(PORT, &format!("/fetch?url=http://{METADATA}:{SERVER}/"))?;
            let mut answers = Vec::new();
            for host in [METADATA, "rebound"] {
                answers.push(connected(node, &pod, &hosts, &format!("{host}:{SERVER}"))?);
            }
            if is_allowed {
                assert_eq!((fetched.status, fetched.body.as_str()), (200, "200\nreached\n"));
                assert!(answers.iter().all(is_reached), "{answers:?}");
                assert_eq!(service.reached(), [METADATA; 3]);
            } else {
                let reason = "a metadata service of clouds, which the profile baseline forbids";
                answers.iter().for_each(|answer| assert_denied(answer, &[reason]));
                assert_eq!(fetched.status, 502, "{}", fetched.body);
                assert_eq!(service.reached(), [""; 0]);
            }
        }
        Ok(())
    })
}

#[test]
fn a_guest_of_wasi_03_is_held_to_its_grants_too() -> Result<()> {
    on_each_containerd(|node| {
        let hosts = hosts(node)?;
        let granted = format!("redis:{SERVER}, rebound:{SERVER}, 127.0.0.1:{SERVER}");
        let pod = Pod::new("newest").annotation(PROFILE, "restricted");
        let pod = node.run_pod(&pod.annotation(CONNECT, &granted))?;
        let _server = Server::start(&pod)?;
        let guest = |words: &[&str]| {
            let container = Container::new(&number("newest"), &node.image("hello-p3")?);
            run(&pod, container.args(words).readonly_mount(&hosts, "/etc/hosts"))
        };
        let local = format!("127.0.0.1:{SERVER}");
        assert_eq!(guest(&["tcp-connect", &local])?.1.stdout, "connected\n");
        assert!(guest(&["look-up", "redis"])?.1.stdout.contains("192, 0, 2, 7"));
        let other = format!("{OTHER}:{SERVER}");
        for words in [["tcp-connect", other.as_str()], ["look-up", "other"]] {
            let (code, logs) = guest(&words)?;
            assert_eq!((code, logs.stdout.as_str()), (1, ""), "{words:?}: {logs:?}");
            for part in ["AccessDenied", "denied: ", "not granted"] {
                assert!(logs.stderr.contains(part), "no {part} in {logs:?}");
            }
        }
        let server = Container::new("server", &node.image("hello-http-p3")?);
        pod.run(&server.readonly_mount(&hosts, "/etc/hosts"))?;
        for (host, expected) in [
            ("redis", "200"),
            ("rebound", "ErrorCode::HttpRequestDenied"),
            ("other", "ErrorCode::HttpRequestDenied"),
            (METADATA, "ErrorCode::HttpRequestDenied"),
        ] {
            let fetched = pod.http_get(PORT, &format!("/fetch?url={host}:{SERVER}"))?.body;
            assert!(fetched.contains(expected), "{host}: {fetched}");
        }
        Ok(())
    })
}
