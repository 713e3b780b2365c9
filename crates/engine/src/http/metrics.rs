//! Metrics of a server, in the text format of OpenMetrics, on a port of their own.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::accept::ACCEPT_PAUSE;
use super::response::CutBy;
use crate::memory;

/// Scrapers that are answered at a time. Others wait.
const READERS: usize = 8;

/// Time limit for a scraper's request.
const PATIENCE: Duration = Duration::from_secs(10);

const FORMAT: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The standard methods (RFC 9110, section 9.3, and RFC 5789). A client may send any other name.
const METHODS: [&str; 9] =
    ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// Returns the method if it is a standard one.
pub fn known_method(method: &str) -> Option<&'static str> {
    METHODS.into_iter().find(|it| *it == method)
}

/// Buckets from 0.1 ms to 52 s, each twice as long as the one before.
fn durations() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 20))
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answer {
    method: &'static str,
    code: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Cut {
    by: &'static str,
}

/// Metrics of a server.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answer, Counter>,
    durations: Histogram,
    cut: Family<Cut, Counter>,
    created: Counter,
    failed: Counter,
    live: Gauge,
    memory: Gauge,
}

impl Metrics {
    /// Makes metrics that are all zero.
    pub fn new() -> Arc<Metrics> {
        let mut registry = Registry::with_prefix("wasmtime");
        let (requests, durations) = (Family::<Answer, Counter>::default(), durations());
        let cut = Family::<Cut, Counter>::default();
        let (created, failed) = (Counter::default(), Counter::default());
        let (live, memory) = (Gauge::default(), Gauge::default());
        registry.register(
            "http_requests",
            "Requests whose response was sent, or broke off",
            requests.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "From the head of a request to the end of its response",
            Unit::Seconds,
            durations.clone(),
        );
        registry.register(
            "http_responses_cut",
            "Responses that broke off after they had begun, by the guest or by the client",
            cut.clone(),
        );
        registry.register("instances_created", "Instances of the guest, so far", created.clone());
        registry.register("instances_failed", "Those that trapped, or were ended", failed.clone());
        registry.register("instances", "Those that there are", live.clone());
        registry.register_with_unit(
            "instances_memory",
            "Their linear memories and tables, together",
            Unit::Bytes,
            memory.clone(),
        );
        Arc::new(Metrics { registry, requests, durations, cut, created, failed, live, memory })
    }

    /// Counts a finished request.
    pub fn answered(&self, method: &str, code: u16, after: Duration, cut_by: Option<CutBy>) {
        let method = known_method(method).unwrap_or("other");
        self.requests.get_or_create(&Answer { method, code }).inc();
        self.durations.observe(after.as_secs_f64());
        if let Some(by) = cut_by {
            self.cut.get_or_create(&Cut { by: by.name() }).inc();
        }
    }

    /// Counts a new instance.
    pub fn created(&self) {
        self.created.inc();
        self.live.inc();
    }

    /// Counts the end of an instance.
    pub fn ended(&self, has_failed: bool) {
        self.live.dec();
        if has_failed {
            self.failed.inc();
        }
    }

    fn text(&self) -> Result<String, std::fmt::Error> {
        self.memory.set(i64::try_from(memory::of_all()).unwrap_or(i64::MAX));
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Answers scrapers until the process ends.
    pub async fn serve(self: Arc<Metrics>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(READERS));
        loop {
            // The semaphore is never closed.
            let Ok(place) = places.clone().acquire_owned().await else { return };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let metrics = self.clone();
            tokio::spawn(async move {
                let _ = tokio::time::timeout(PATIENCE, metrics.answer(stream)).await;
                drop(place);
            });
        }
    }

    async fn answer(self: Arc<Metrics>, stream: TcpStream) -> hyper::Result<()> {
        let service = service_fn(|request| {
            let response = self.respond(&request);
            async { Ok::<_, Infallible>(response) }
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).keep_alive(false);
        builder.serve_connection(TokioIo::new(stream), service).await
    }

    fn respond(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let found = match request.uri().path() {
            "/metrics" => self.text().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR),
            _ => Err(StatusCode::NOT_FOUND),
        };
        let status = found.as_ref().map_or_else(|status| *status, |_| StatusCode::OK);
        let mut response = Response::new(Full::from(found.unwrap_or_default()));
        *response.status_mut() = status;
        response.headers_mut().insert(CONTENT_TYPE, FORMAT);
        response
    }
}
