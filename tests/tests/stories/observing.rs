//! Observation of the requests that a guest serves: access log, metrics and traces.

use anyhow::{Context, Result};
use serde_json::Value;
use tests::{Container, Pod, RunningContainer, on_each_containerd, wait};

use crate::composing::packed_with;
use crate::pod::{LISTEN, PORT};

const METRICS: u16 = 9100;

/// The header of a trace, and the trace's id.
pub const TRACE: &str = "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
pub const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The lines of the access log so far.
fn entries(server: &RunningContainer) -> Result<Vec<Value>> {
    let stdout = server.logs()?.stdout;
    Ok(stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// The one of that path, which is in the log some time later.
pub fn entry(server: &RunningContainer, target: &str) -> Result<Value> {
    wait::until(wait::EVENTUALLY, &format!("{target} in the access log"), || {
        Ok(entries(server)?.into_iter().find(|entry| entry["target"] == target))
    })
}

#[test]
fn each_response_is_a_line_of_the_access_log() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("logged").annotation("wasmtime.shim/http-access-log", "json");
        let pod = node.run_pod(&spec)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let flags = ["--include", "--header", "x-request-id: mine", "--header", TRACE];
        let answer = pod.http_get_with(PORT, "/", &flags)?;
        assert!(answer.body.contains("x-request-id: mine"), "{answer:?}");
        assert_eq!(pod.http_get(PORT, "/trap?a=b")?.status, 500);

        let first = entry(&server, "/")?;
        let of = |key: &str| first[key].clone();
        assert_eq!(
            (of("method"), of("protocol"), of("status")),
            ("GET".into(), "HTTP/1.1".into(), 200.into())
        );
        assert_eq!(of("bytes"), "hello from wasi:http\n".len());
        assert_eq!(of("request_id"), "mine");
        assert_eq!(of("trace_id"), TRACE_ID);
        let agent = of("user_agent");
        assert!(agent.as_str().is_some_and(|agent| agent.starts_with("curl/")), "{first}");
        assert!(
            of("remote_address").as_str().is_some_and(|it| it.contains("127.0.0.1:")),
            "{first}"
        );
        assert!(of("duration_ms").as_f64().is_some_and(|time| time > 0.0), "{first}");
        let second = entry(&server, "/trap?a=b")?;
        assert_eq!(second["status"], 500);
        assert!(second["request_id"].as_str().is_some_and(|id| id.len() > 16), "{second}");
        Ok(())
    })
}

/// A guest that sends a request passes the trace on that its own is a part of.
#[test]
fn a_trace_goes_on_in_the_requests_that_a_guest_sends() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("traced").annotation("wasmtime.shim/http-access-log", "json");
        let pod = node.run_pod(&spec)?;
        let image = node.image("hello-http")?;
        pod.run(&Container::new("front", &image))?;
        let address = "127.0.0.1:8081";
        let back = Container::new("back", &image).env(LISTEN, address);
        let back = pod.run(&back)?;
        assert_eq!(pod.http_get(8081, "/")?.status, 200);
        let path = format!("/fetch?url=http://{address}/args");
        assert_eq!(pod.http_get_with(PORT, &path, &["--header", TRACE])?.status, 200);
        assert_eq!(entry(&back, "/args")?["trace_id"], TRACE_ID);
        Ok(())
    })
}

#[test]
fn a_guests_lines_begin_with_the_id_of_their_request_where_a_pod_asks_for_it() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("identified")
            .annotation("wasmtime.shim/http-request-ids", "true")
            .annotation("wasmtime.shim/http-instances", "reuse=2");
        let pod = node.run_pod(&spec)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        for id in ["first", "second"] {
            let header = format!("x-request-id: {id}");
            let path = format!("/log?text={id}");
            assert_eq!(pod.http_get_with(PORT, &path, &["--header", &header])?.status, 200);
            server.wait_for_output(&format!("{id} stdout: {id}\n"))?;
            server.wait_for_error(&format!("{id} stderr: {id}\n"))?;
        }
        Ok(())
    })
}

#[test]
fn metrics_are_served_on_a_port_of_their_own() -> Result<()> {
    on_each_containerd(|node| {
        let spec = Pod::new("measured")
            .annotation("wasmtime.shim/metrics-listen", &format!("0.0.0.0:{METRICS}"));
        let pod = node.run_pod(&spec)?;
        let image = node.image("hello-http")?;
        pod.run(&Container::new("server", &image))?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        assert_eq!(pod.http_get(PORT, "/trap")?.status, 500);
        let metrics = || -> Result<String> { Ok(pod.http_get(METRICS, "/metrics")?.body) };
        // The end of an instance is logged a moment after its response.
        wait::until(wait::SOON, "no instance to be live", || {
            let text = metrics()?;
            Ok(text.contains("\nwasmtime_instances 0\n").then_some(()))
        })?;
        let text = metrics()?;
        for line in [
            r#"wasmtime_http_requests_total{method="GET",code="200"} 1"#,
            r#"wasmtime_http_requests_total{method="GET",code="500"} 1"#,
            "wasmtime_http_request_duration_seconds_count 2",
            "wasmtime_instances_created_total 2",
            "wasmtime_instances_failed_total 1",
            "wasmtime_instances_memory_bytes 0",
        ] {
            assert!(text.lines().any(|it| it == line), "no {line} in {text}");
        }
        assert_eq!(pod.http_get(METRICS, "/")?.status, 404);

        // Of two containers in a Pod one has the port; the other serves without.
        let other = Container::new("other", &image).env(LISTEN, "127.0.0.1:8081");
        let other = pod.run(&other)?;
        assert_eq!(pod.http_get(8081, "/")?.status, 200);
        for word in
            ["warning: no metrics", "0.0.0.0:9100", "in use", "wasmtime.shim/metrics-listen"]
        {
            other.wait_for_error(word)?;
        }
        Ok(())
    })
}

#[test]
fn a_server_listens_on_the_port_that_its_image_exposes() -> Result<()> {
    on_each_containerd(|node| {
        let guest = tests::containerd::repository().join("target/images/hello-http.wasm");
        let guest = guest.to_str().context("a path")?;
        let image =
            packed_with(node, "exposed", &["--expose", "9000", "--expose", "53/udp", guest])?;
        let pod = node.run_pod(&Pod::new("exposed"))?;
        pod.run(&Container::new("server", &image))?;
        assert_eq!(pod.http_get(9000, "/")?.status, 200);
        // The container's own setting takes precedence.
        let set = Container::new("set", &image).env(LISTEN, "127.0.0.1:9001");
        pod.run(&set)?;
        assert_eq!(pod.http_get(9001, "/")?.status, 200);
        Ok(())
    })
}
