//! Another Pod and the node, which a restricted guest reaches only if they are named.

use std::net::TcpListener;

use anyhow::Result;
use tests::{Container, Node, Pod, on_each_containerd};

use super::{CONNECT, OTHER, PROFILE, Server, assert_denied, number, run};
use crate::pod::PORT;

/// Checks that a socket and a request reach a server only if its address and port are granted.
fn only_a_grant_leads_to(node: &Node, host: &str, port: u16) -> Result<()> {
    let target = format!("{host}:{port}");
    let (elsewhere, other_port) = (format!("{OTHER}:{port}"), format!("{host}:9"));
    for (name, profile, granted, is_granted) in [
        ("nothing", "restricted", None, false),
        ("another-address", "restricted", Some(&elsewhere), false),
        ("another-port", "restricted", Some(&other_port), false),
        ("not-restricted", "baseline", Some(&elsewhere), false),
        ("named", "restricted", Some(&target), true),
    ] {
        let mut pod = Pod::new(&number(name)).annotation(PROFILE, profile);
        if let Some(granted) = granted {
            pod = pod.annotation(CONNECT, granted);
        }
        let pod = node.run_pod(&pod)?;
        let connect = Container::new("connect", &node.image("hello")?);
        let answer = run(&pod, connect.args(&["tcp-connect", &target]))?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let fetched = pod.http_get(PORT, &format!("/fetch?url=http://{target}/"))?;
        if is_granted {
            assert_eq!(answer.0, 0, "{name}: {answer:?}");
            assert_eq!(fetched.status, 200, "{name}: {}", fetched.body);
            continue;
        }
        let grant = format!("{CONNECT} \"{target}\" would allow it");
        let line = format!("denied: TCP connection to {target}: not granted; {grant}");
        assert_denied(&answer, &[&line]);
        assert_eq!(fetched.status, 502, "{name}: {}", fetched.body);
        assert!(fetched.body.contains("HttpRequestDenied"), "{name}: {}", fetched.body);
        let line = format!("denied: HTTP request to http://{target}: not granted");
        server.wait_for_error(&line)?;
    }
    Ok(())
}

#[test]
fn a_port_of_another_pod_is_reached_only_if_it_is_named() -> Result<()> {
    on_each_containerd(|node| {
        // The server ends a connection without a request soon, so that the guest of the socket ends.
        let shop = Pod::new("shop").annotation("wasmtime.shim/http-idle-timeout", "1s");
        let shop = node.run_pod(&shop)?;
        shop.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(shop.http_get(PORT, "/")?.status, 200);
        only_a_grant_leads_to(node, &shop.address()?, PORT)
    })
}

#[test]
fn the_node_is_reached_only_if_it_is_named() -> Result<()> {
    on_each_containerd(|node| {
        let listener = TcpListener::bind((node.address()?, 0))?;
        let port = listener.local_addr()?.port();
        let server = Server::of(listener)?;
        only_a_grant_leads_to(node, node.address()?, port)?;
        // The socket and the request of the guest that names it.
        assert_eq!(server.reached().len(), 2);
        Ok(())
    })
}
