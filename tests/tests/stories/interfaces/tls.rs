//! TLS that a guest speaks over a socket of its own.

use anyhow::Result;
use tests::{Container, Pod, on_each_containerd};

use super::run;
use crate::outgoing::{OTHER, ROOTS, TlsServer};

#[test]
fn a_guest_speaks_tls_with_who_has_a_certificate_that_it_trusts_and_the_right_name() -> Result<()> {
    on_each_containerd(|node| {
        let (image, folder) = (node.image("hello-tls")?, node.volume("tls")?);
        let pod = node.run_pod(&Pod::new("tls"))?;
        let _server = TlsServer::start(&pod, &folder)?;
        let port = OTHER.to_string();
        let guest = |name: &str, args: &[&str]| {
            Container::new(name, &image).readonly_mount(&folder, "/etc/tls").args(args)
        };
        let trusting = |name: &str, args: &[&str]| guest(name, args).env(ROOTS, "/etc/tls/ca.pem");

        for (name, args) in
            [("name", &["localhost", &port][..]), ("address", &["127.0.0.1", &port])]
        {
            let (code, stdout, stderr) = run(&pod, &trusting(name, args))?;
            assert_eq!((code, stdout.as_str()), (0, "HTTP/1.0 200 ok\n"), "{stderr}");
        }
        for (guest, reason) in [
            (guest("stranger", &["localhost", &port]), "UnknownIssuer"),
            (
                trusting("other", &["localhost", &port, "example.com"]),
                "certificate not valid for name \"example.com\"",
            ),
            (trusting("none", &["localhost", &port, "no name"]), "invalid dns name"),
        ] {
            let (code, stdout, stderr) = run(&pod, &guest)?;
            assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
            assert!(stderr.contains(reason), "no {reason} in {stderr}");
        }

        let pod = Pod::new("narrow").annotation("wasmtime.shim/allow-connect", "localhost:1");
        let (code, _, stderr) = run(&node.run_pod(&pod)?, &trusting("app", &["localhost", &port]))?;
        let reason = format!("denied: TCP connection to 127.0.0.1:{port}");
        assert!(code == 1 && stderr.contains(&reason), "{stderr}");
        Ok(())
    })
}
