//! Names that the Pod's DNS server answers.

use anyhow::Result;
use tests::dns::Dns;
use tests::logs::Logs;
use tests::{Container, Node, Pod, RunningPod, on_each_containerd};

use super::{
    CONNECT, HTTP, METADATA, OTHER, PROFILE, SERVER, Server, assert_denied, is_reached, number, run,
};
use crate::pod::PORT;

/// Address of NodeLocal DNSCache, which is link-local.
const NODE_LOCAL: &str = "169.254.20.10";

/// End of the names of Services, which the Pod's resolver adds.
const SERVICES: &str = "default.svc.cluster.local";

/// What a guest gets that connects to the server by this name.
fn connected(node: &Node, pod: &RunningPod, name: &str) -> Result<(i32, Logs)> {
    let container = Container::new(&number("connect"), &node.image("hello")?);
    run(pod, container.args(&["tcp-connect", &format!("{name}:{SERVER}")]))
}

/// A Pod whose guests have a grant of `moving`. Every second answer about that name is the metadata service.
fn rebound<'a>(node: &'a Node, key: &str, granted: &str) -> Result<(RunningPod<'a>, Server, Dns)> {
    let pod = Pod::new(&number("rebound")).dns_server(NODE_LOCAL).annotation(key, granted);
    let pod = node.run_pod(&pod)?;
    let server = Server::start(&pod)?;
    let moving = format!("moving.{SERVICES}");
    let dns = Dns::start(&pod, NODE_LOCAL, &[(&moving, &[OTHER, METADATA])])?;
    Ok((pod, server, dns))
}

#[test]
fn a_request_to_a_name_that_leads_elsewhere_a_moment_later_is_refused() -> Result<()> {
    on_each_containerd(|node| {
        let origin = format!("http://moving:{SERVER}");
        let (pod, server, _dns) = rebound(node, HTTP, &origin)?;
        let guest = pod.run(&Container::new("guest", &node.image("hello-http")?))?;
        for _ in 0..2 {
            let path = format!("/fetch?url={origin}/");
            let answer = pod.http_get(PORT, &path)?;
            assert_eq!((answer.status, answer.body.as_str()), (200, "200\nreached\n"));
            let answer = pod.http_get(PORT, &path)?;
            assert_eq!(answer.status, 502, "{}", answer.body);
            assert!(answer.body.contains("HttpRequestDenied"), "{}", answer.body);
        }
        let reason = "a metadata service of clouds";
        guest
            .wait_for_error(&format!("denied: HTTP request to {origin} at {METADATA}: {reason}"))?;
        // There was no connection to the other address.
        assert_eq!(server.reached(), [OTHER; 2]);
        Ok(())
    })
}

#[test]
fn a_connection_to_a_name_that_leads_elsewhere_a_moment_later_is_refused() -> Result<()> {
    on_each_containerd(|node| {
        let (pod, server, _dns) = rebound(node, CONNECT, &format!("moving:{SERVER}"))?;
        for _ in 0..2 {
            let answer = connected(node, &pod, "moving")?;
            assert!(is_reached(&answer), "{answer:?}");
            let reason = format!("TCP connection to {METADATA}:{SERVER}: a metadata service");
            assert_denied(&connected(node, &pod, "moving")?, &[&reason]);
        }
        assert_eq!(server.reached(), [OTHER; 2]);
        Ok(())
    })
}

#[test]
fn granted_names_are_looked_up_at_the_pods_dns_server_which_a_restricted_guest_does_not_reach()
-> Result<()> {
    on_each_containerd(|node| {
        let granted = format!("api:{SERVER}");
        for (profile, granted, looks_up_others, reaches_others) in [
            ("restricted", Some(&granted), false, false),
            ("baseline", Some(&granted), true, false),
            ("baseline", None, true, true),
        ] {
            let pod = Pod::new(&number(profile)).dns_server(NODE_LOCAL);
            let mut pod = pod.annotation(PROFILE, profile);
            if let Some(granted) = granted {
                pod = pod.annotation(CONNECT, granted);
            }
            let pod = node.run_pod(&pod)?;
            let _server = Server::start(&pod)?;
            let [api, secret] = ["api", "secret"].map(|name| format!("{name}.{SERVICES}"));
            let dns = Dns::start(&pod, NODE_LOCAL, &[(&api, &[OTHER]), (&secret, &[OTHER])])?;
            let answer = connected(node, &pod, "api")?;
            assert!(is_reached(&answer), "{profile}: {answer:?}");
            let answer = connected(node, &pod, "secret")?;
            if reaches_others {
                assert!(is_reached(&answer), "{profile}: {answer:?}");
            } else {
                assert_denied(&answer, &["not granted"]);
            }
            // A look-up of a name could carry a message out of the Pod.
            let asked = dns.asked();
            assert!(asked.contains(&api), "{profile}: {asked:?}");
            let has_secret = asked.iter().any(|name| name.contains("secret"));
            assert_eq!(has_secret, looks_up_others, "{profile}: {asked:?}");
            let address = format!("{NODE_LOCAL}:{SERVER}");
            let container = Container::new("direct", &node.image("hello")?);
            let answer = run(&pod, container.args(&["tcp-connect", &address]))?;
            if reaches_others {
                assert!(is_reached(&answer), "{profile}: {answer:?}");
            } else {
                assert_denied(&answer, &["not granted"]);
            }
        }
        Ok(())
    })
}
