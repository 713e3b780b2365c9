//! Annotations of a Pod for this runtime: none is ignored.

use anyhow::{Context, Result};
use tests::{Container, Node, Pod, on_each_containerd};

/// Handler of a stock node, on which containerd is not configured to pass annotations on.
const STOCK: &str = "wasmtime-stock";

const LISTEN: &str = "wasmtime.shim/http-listen";

/// Error with which the Pod, or its container of that image, is refused.
fn refusal(node: &Node, pod: &Pod, image: &str) -> Result<String> {
    let made = node.run_pod(pod);
    let refused =
        made.and_then(|pod| pod.run(&Container::new("app", &node.image(image)?)).map(drop));
    Ok(format!("{:#}", refused.err().context("it runs")?))
}

#[test]
fn one_that_there_is_not_is_refused_with_the_nearest_there_is() -> Result<()> {
    on_each_containerd(|node| {
        for (name, key, nearest) in [
            ("dumps", "core-dump", "coredump"),
            ("metered", "metrics", "metrics-listen"),
            ("capital", "Http-Listen", "http-listen"),
            ("timed", "http-timeout", "http-idle-timeout"),
        ] {
            let pod = Pod::new(name).annotation(&format!("wasmtime.shim/{key}"), "/x");
            let text = refusal(node, &pod, "hello")?;
            let expected = format!("{key}\", did you mean \"wasmtime.shim/{nearest}\"?");
            for word in [&expected, "wasmtime.shim/http-request-timeout"] {
                assert!(text.contains(word), "no {word} in {text}");
            }
        }
        Ok(())
    })
}

#[test]
fn those_that_containerd_was_not_told_to_pass_on_are_heeded() -> Result<()> {
    on_each_containerd(|node| {
        let stock = |name: &str| Pod::new(name).handler(STOCK);
        let pod = node.run_pod(&stock("heeded").annotation(LISTEN, "0.0.0.0:9091"))?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(pod.http_get(9091, "/")?.status, 200);
        let calls = server.exec(&["wit"])?;
        assert_eq!(calls.code, 0, "{calls:?}");

        let text =
            refusal(node, &stock("misspelt").annotation("wasmtime.shim/metrics", "x"), "hello")?;
        assert!(text.contains("did you mean \"wasmtime.shim/metrics-listen\"?"), "{text}");
        let text = refusal(node, &stock("mistaken").annotation(LISTEN, "everywhere"), "hello")?;
        assert!(text.contains(LISTEN) && text.contains("\"everywhere\""), "{text}");

        let none = node.run_pod(&stock("none"))?;
        none.run(&Container::new("server", &node.image("hello-http")?))?;
        assert_eq!(none.http_get(8080, "/")?.status, 200);
        Ok(())
    })
}
