//! Spans of requests, for a collector of OpenTelemetry.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{Shutdown, shutdown};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use prost::Message;
use tests::network::within;
use tests::{Container, Pod, RunningPod, on_each_containerd};

use crate::observing::{TRACE, TRACE_ID};
use crate::pod::{LISTEN, PORT};

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// The part of [`TRACE`] that is the parent's.
const PARENT_ID: &str = "00f067aa0ba902b7";

/// Takes what is exported within a Pod, on the port that collectors have.
struct Collector {
    listener: TcpListener,
    /// Requests, one after the other: messages that follow each other are one (Protocol Buffers, "Encoding").
    received: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    const URL: &str = "http://127.0.0.1:4318";

    fn start(pod: &RunningPod) -> Result<Collector> {
        let listener = within(&pod.network, || Ok(TcpListener::bind("127.0.0.1:4318")?))?;
        let received: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (accepting, taken) = (listener.try_clone()?, received.clone());
        thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let taken = taken.clone();
                thread::spawn(move || take(&stream, &taken));
            }
        });
        Ok(Collector { listener, received })
    }

    fn request(&self) -> Result<ExportTraceServiceRequest> {
        let received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(ExportTraceServiceRequest::decode(received.as_slice())?)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

/// The requests of one connection.
fn take(stream: &TcpStream, taken: &Mutex<Vec<u8>>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            ensure!(reader.read_line(&mut head)? > 0, "the client is gone");
        }
        ensure!(head.starts_with("POST /v1/traces "), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.context("no length")?.parse()?];
        reader.read_exact(&mut body)?;
        taken.lock().unwrap_or_else(PoisonError::into_inner).extend(body);
        let mut writer = stream;
        writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")?;
    }
}

/// Those that are texts or numbers, by their names.
fn by_name(attributes: &[KeyValue]) -> BTreeMap<&str, String> {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    };
    attributes.iter().filter_map(|it| Some((it.key.as_str(), text(it)?))).collect()
}

fn spans(request: &ExportTraceServiceRequest) -> Vec<&Span> {
    let scopes = request.resource_spans.iter().flat_map(|it| &it.scope_spans);
    scopes.flat_map(|it| &it.spans).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn each_request_is_a_span_of_its_trace_and_the_last_are_sent_at_the_end() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("spans"))?;
        let collector = Collector::start(&pod)?;
        let server = Container::new("server", &node.image("hello-http")?)
            .env(ENDPOINT, Collector::URL)
            .env("OTEL_RESOURCE_ATTRIBUTES", "service.name=shop,team=a%2Cb");
        let server = pod.run(&server)?;
        assert_eq!(pod.http_get_with(PORT, "/args?a=b", &["--header", TRACE])?.status, 200);
        assert_eq!(pod.http_get(PORT, "/trap")?.status, 500);
        assert_eq!(server.stop(Duration::from_secs(10))?.code, 0);

        let request = collector.request()?;
        let resource = request.resource_spans.first().context("nothing")?.resource.clone();
        let resource = resource.context("no resource")?.attributes;
        let resource = by_name(&resource);
        assert_eq!((&*resource["service.name"], &*resource["team"]), ("shop", "a,b"));
        let spans = spans(&request);
        let [one, other] = spans[..] else { return Err(anyhow!("{spans:?}")) };
        assert_eq!(
            (hex(&one.trace_id), hex(&one.parent_span_id)),
            (TRACE_ID.into(), PARENT_ID.into())
        );
        assert!(one.end_time_unix_nano > one.start_time_unix_nano);
        for span in [one, other] {
            assert_eq!((&*span.name, span.kind), ("GET", SpanKind::Server as i32));
        }
        let attributes = by_name(&one.attributes);
        for (name, value) in [
            ("http.request.method", "GET"),
            ("http.response.status_code", "200"),
            ("url.path", "/args"),
            ("url.query", "a=b"),
            ("client.address", "127.0.0.1"),
            ("server.port", "8080"),
        ] {
            assert_eq!(attributes[name], value, "{name}");
        }
        assert!(other.parent_span_id.is_empty() && hex(&other.trace_id) != TRACE_ID, "{other:?}");
        assert_eq!(by_name(&other.attributes)["http.response.status_code"], "500");
        assert_eq!(other.status.as_ref().map(|it| it.code), Some(StatusCode::Error as i32));
        Ok(())
    })
}

#[test]
fn what_a_guest_asks_of_another_is_within_its_own_span() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("within"))?;
        let collector = Collector::start(&pod)?;
        let image = node.image("hello-http")?;
        let server = |name: &str| Container::new(name, &image).env(ENDPOINT, Collector::URL);
        let front = pod.run(&server("front"))?;
        let back = pod.run(&server("back").env(LISTEN, "127.0.0.1:8081"))?;
        assert_eq!(pod.http_get(8081, "/")?.status, 200);
        let path = "/fetch?url=http://127.0.0.1:8081/args";
        assert_eq!(pod.http_get(PORT, path)?.status, 200);
        for server in [front, back] {
            assert_eq!(server.stop(Duration::from_secs(10))?.code, 0);
        }

        let request = collector.request()?;
        let spans = spans(&request);
        let of = |path: &str| {
            let span = spans.iter().find(|span| by_name(&span.attributes)["url.path"] == path);
            span.with_context(|| format!("no {path} in {spans:?}"))
        };
        let (outer, inner) = (of("/fetch")?, of("/args")?);
        assert_eq!((&inner.trace_id, &inner.parent_span_id), (&outer.trace_id, &outer.span_id));
        Ok(())
    })
}

#[test]
fn a_collector_that_takes_no_spans_is_told_and_requests_are_served() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("lost"))?;
        let image = node.image("hello-http")?;
        let lost = Container::new("lost", &image)
            .env(ENDPOINT, Collector::URL)
            .env("OTEL_BSP_SCHEDULE_DELAY", "100");
        let lost = pod.run(&lost)?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        lost.wait_for_error("warning: spans are lost: http://127.0.0.1: ")?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        lost.stop(Duration::from_secs(10))?;

        let other = Container::new("other", &image)
            .env(ENDPOINT, Collector::URL)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        let other = pod.run(&other)?;
        assert_eq!(pod.http_get(PORT, "/")?.status, 200);
        other.wait_for_error("warning: no spans: the protocol is grpc, and only http/protobuf")
    })
}
