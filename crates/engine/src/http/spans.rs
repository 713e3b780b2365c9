//! A span of each request, for an OpenTelemetry collector, if the container's environment names one.
//!
//! The SDK reads the variables itself (OpenTelemetry specification, "Environment Variable Specification" and "OTLP
//! Exporter"). They are in the environment of the process, which has no other variables of the container.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, USER_AGENT};
use hyper::http::uri::Authority;
use hyper::{Request, Response, Version};
use opentelemetry::trace::{Span as _, SpanKind, Status, Tracer, TracerProvider};
use opentelemetry::{Key, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use percent_encoding::percent_decode_str;
use plan::TELEMETRY;
use tokio::runtime::Handle;

use super::metrics::known_method;
use super::outgoing::Outgoing;
use super::response::CutBy;
use super::tracing;
use crate::Plan;
use crate::report::log;

/// The only supported protocol, which is also the specification's default.
const PROTOCOL: &str = "http/protobuf";

/// Default time limit of an export, in milliseconds.
const EXPORT_MILLISECONDS: u64 = 10_000;

/// Time limit for the last spans when the server ends. It is shorter than the default grace period of a Pod.
const LAST_EXPORT: Duration = Duration::from_secs(5);

/// Longest text from a client in a span, in bytes, because many spans may wait for the collector.
const LONGEST: usize = 1 << 10;

/// The SDK's default name of a service.
const UNKNOWN: &str = "unknown_service";

/// The attribute that `OTEL_SERVICE_NAME` sets, which takes precedence.
const SERVICE_NAME: &str = "service.name";

/// Exporter of spans.
pub struct Spans {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Spans {
    /// Returns `None` if the environment enables no spans, or configures something unsupported, which is logged.
    pub fn new(plan: &Plan, outgoing: Arc<Outgoing>, tokio: &Handle) -> Option<Spans> {
        let set = |name: &str| {
            let value = plan.variable(&format!("{TELEMETRY}{name}"))?;
            Some(value).filter(|value| !value.is_empty())
        };
        set("EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| set("EXPORTER_OTLP_ENDPOINT"))?;
        let is_off = set("SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set("TRACES_EXPORTER") == Some("none");
        if is_off {
            return None;
        }
        let protocol =
            set("EXPORTER_OTLP_TRACES_PROTOCOL").or_else(|| set("EXPORTER_OTLP_PROTOCOL"));
        if let Some(other) = protocol.filter(|protocol| *protocol != PROTOCOL) {
            log(&format!(
                "warning: no spans: the protocol is {other}, and only {PROTOCOL} is provided"
            ));
            return None;
        }
        let time = set("EXPORTER_OTLP_TRACES_TIMEOUT").or_else(|| set("EXPORTER_OTLP_TIMEOUT"));
        let time = time.and_then(|time| time.parse().ok()).unwrap_or(EXPORT_MILLISECONDS);
        let collector = Collector {
            outgoing,
            tokio: tokio.clone(),
            time: Duration::from_millis(time),
            is_logged: AtomicBool::new(false),
        };
        let exporter = SpanExporter::builder().with_http().with_http_client(collector).build();
        let exporter =
            exporter.inspect_err(|error| log(&format!("warning: no spans: {error}"))).ok()?;
        let mut attributes = decoded(set("RESOURCE_ATTRIBUTES").unwrap_or_default());
        if set("SERVICE_NAME").is_some() {
            attributes.retain(|attribute| attribute.key.as_str() != SERVICE_NAME);
        }
        let mut resource = Resource::builder().with_attributes(attributes.clone()).build();
        let service = resource.get(&Key::from_static_str(SERVICE_NAME));
        if service.is_none_or(|service| service.as_str() == UNKNOWN) {
            let builder = Resource::builder().with_attributes(attributes);
            resource = builder.with_service_name(plan.name().to_owned()).build();
        }
        let provider = SdkTracerProvider::builder().with_resource(resource);
        let provider = provider.with_batch_exporter(exporter).build();
        let tracer = provider.tracer(env!("CARGO_PKG_NAME"));
        Some(Spans { provider, tracer })
    }

    /// Begins the span of a request as a child of the client's span. The request's header names the new span, so that the spans
    /// of the guest and of the servers that it calls become children of it.
    pub fn begin(&self, request: &mut Request<Incoming>, client: Option<SocketAddr>) -> Span {
        let parent = tracing::extract(request.headers());
        let method = known_method(request.method().as_str());
        // There are no routes, and a path may contain a different text each time ("Semantic conventions for HTTP spans").
        let name = method.unwrap_or("HTTP");
        let span = self.tracer.span_builder(name).with_kind(SpanKind::Server);
        let mut span = span.start_with_context(&self.tracer, &parent);
        if span.is_recording() {
            span.set_attributes(attributes(request, method, client));
        }
        tracing::inject(span.span_context().clone(), request.headers_mut());
        span
    }

    /// Sends the remaining spans. Blocks.
    pub fn end(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_EXPORT) {
            log(&format!("warning: the last spans are lost: {error}"));
        }
    }
}

/// Parses `OTEL_RESOURCE_ATTRIBUTES`. Values are percent-encoded if they contain `,` or `=`, which the SDK does not decode
/// (OpenTelemetry specification, "Resource SDK", "Specifying resource information via an environment variable").
fn decoded(attributes: &str) -> Vec<KeyValue> {
    let pairs = attributes.split(',').filter_map(|pair| pair.split_once('='));
    let decode = |(key, value): (&str, &str)| {
        let value = percent_decode_str(value.trim()).decode_utf8_lossy().into_owned();
        KeyValue::new(key.trim().to_owned(), value)
    };
    pairs.map(decode).collect()
}

/// Ends a span with the response's status, which is `None` if the client went away before, and the side that broke it off.
pub fn end(span: &mut Span, status: Option<u16>, cut_by: Option<CutBy>) {
    if let Some(status) = status {
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
    }
    if status.is_some_and(|status| status >= 500) {
        span.set_status(Status::error(""));
    }
    if cut_by == Some(CutBy::Guest) {
        span.set_attribute(KeyValue::new("error.type", "response_cut"));
        span.set_status(Status::error("the guest did not finish its response"));
    }
    span.end();
}

/// Returns the attributes of a server's span ("Semantic conventions for HTTP spans", "HTTP server span").
fn attributes(
    request: &Request<Incoming>,
    method: Option<&'static str>,
    client: Option<SocketAddr>,
) -> Vec<KeyValue> {
    let text = |name| {
        let value = request.headers().get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()))
    };
    let original = method.is_none().then(|| short(request.method().as_str()));
    let version = match request.version() {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    };
    let host = || text(HOST)?.parse::<Authority>().ok();
    let authority = request.uri().authority().cloned().or_else(host);
    let (server, port) = match &authority {
        Some(authority) => (Some(short(authority.host())), authority.port_u16()),
        None => (None, None),
    };
    [
        Some(KeyValue::new("http.request.method", method.unwrap_or("_OTHER"))),
        original.map(|method| KeyValue::new("http.request.method_original", method)),
        Some(KeyValue::new("url.scheme", request.uri().scheme_str().unwrap_or("http").to_owned())),
        Some(KeyValue::new("url.path", short(request.uri().path()))),
        request.uri().query().map(|query| KeyValue::new("url.query", short(query))),
        Some(KeyValue::new("network.protocol.version", version)),
        server.map(|address| KeyValue::new("server.address", address)),
        port.map(|port| KeyValue::new("server.port", i64::from(port))),
        client.map(|it| KeyValue::new("client.address", it.ip().to_canonical().to_string())),
        text(USER_AGENT).map(|agent| KeyValue::new("user_agent.original", short(&agent))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Cuts a text to [`LONGEST`] bytes.
fn short(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST)].to_owned()
}

/// Client of the collector. It trusts the same certificates as the container's guests.
struct Collector {
    outgoing: Arc<Outgoing>,
    tokio: Handle,
    time: Duration,
    /// Whether the last failure was logged: once, until spans are taken again.
    is_logged: AtomicBool,
}

impl fmt::Debug for Collector {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Collector").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (outgoing, time) = (self.outgoing.clone(), self.time);
        // The text has neither the user nor the query of the URL, which may be secret.
        let (scheme, host) = (request.uri().scheme_str(), request.uri().host());
        let target = format!("{}://{}", scheme.unwrap_or_default(), host.unwrap_or_default());
        // This runs on a thread of the SDK, which has no event loop.
        let sent = self.tokio.spawn(async move { outgoing.exchange(request, time).await });
        let (reason, answer) = match sent.await? {
            Ok(response) if response.status().is_success() => {
                self.is_logged.store(false, Ordering::Relaxed);
                return Ok(response);
            }
            Ok(response) => (response.status().to_string(), Ok(response)),
            Err(error) => (error.to_string(), Err(HttpError::from(error))),
        };
        if !self.is_logged.swap(true, Ordering::Relaxed) {
            log(&format!("warning: spans are lost: {target}: {reason}"));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_text_is_cut_between_characters() {
        assert_eq!(short("/a"), "/a");
        let long = format!("x{}", "é".repeat(LONGEST));
        assert_eq!(short(&long).len(), LONGEST - 1);
    }
}
