//! Observation of requests: an access log, metrics, and the request id in the guest's lines. All are off unless a Pod
//! enables them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use opentelemetry_sdk::trace::Span;
use plan::HttpSettings;
use serde::Serialize;

use super::metrics::Metrics;
use super::response::CutBy;
use super::spans;
use super::tracing::Trace;
use crate::output::log_on_stdout;

/// Header with the id of a request, for proxies, guest and client.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is accepted from a client, in bytes.
const LONGEST_ID: usize = 128;

/// Status of a request whose client went away before the response, as in nginx.
const CLIENT_GONE: u16 = 499;

/// Observer of a server's requests.
pub struct Observer {
    has_access_log: bool,
    metrics: Option<Arc<Metrics>>,
    /// Start time of the server, so that ids of different servers differ.
    started: u64,
    requests: AtomicU64,
}

/// A request, until its response has been sent.
pub struct Observed {
    observer: Arc<Observer>,
    entry: Entry,
    span: Option<Span>,
    cut_by: Option<CutBy>,
    since: Instant,
}

/// A line of the access log. Timestamps come from the container's log.
#[derive(Serialize)]
struct Entry {
    request_id: String,
    remote_address: String,
    method: String,
    target: String,
    protocol: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    status: u16,
    /// Bytes of the response's body that were sent.
    bytes: u64,
    /// The side that broke the response off after it had begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_by: Option<&'static str>,
    duration_ms: f64,
}

impl Observer {
    /// Returns `None` if no setting enables an observation.
    pub fn new(
        settings: &HttpSettings,
        metrics: Option<Arc<Metrics>>,
        has_spans: bool,
    ) -> Option<Arc<Observer>> {
        let has_access_log = settings.has_access_log;
        let is_wanted =
            has_access_log || settings.has_request_ids || metrics.is_some() || has_spans;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let started = since.map_or(0, |since| since.as_nanos() as u64);
        let requests = AtomicU64::new(0);
        is_wanted.then(|| Arc::new(Observer { has_access_log, metrics, started, requests }))
    }

    /// Records a request. If the client sent no id, the request gets one, which the guest sees in the header.
    pub fn began(
        self: &Arc<Observer>,
        request: &mut Request<Incoming>,
        client: Option<SocketAddr>,
        trace: Option<&Trace>,
        span: Option<Span>,
    ) -> Observed {
        let request_id = self.identify(request.headers_mut());
        let headers = request.headers();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
        let entry = Entry {
            request_id,
            // If the socket accepts both families, an address of IPv4 has the form of IPv6.
            remote_address: client.map(canonical).unwrap_or_default(),
            method: request.method().to_string(),
            target: target.to_owned(),
            protocol: format!("{:?}", request.version()),
            user_agent: headers.get(USER_AGENT).map(text),
            trace_id: trace.map(Trace::id),
            status: CLIENT_GONE,
            bytes: 0,
            cut_by: None,
            duration_ms: 0.0,
        };
        let observer = self.clone();
        Observed { observer, entry, span, cut_by: None, since: Instant::now() }
    }

    fn identify(&self, headers: &mut HeaderMap) -> String {
        let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
        if let Some(id) = sent.filter(|id| is_id(id)) {
            return id.to_owned();
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:016x}-{number}", self.started);
        if let Ok(value) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, value);
        }
        id
    }
}

fn canonical(address: SocketAddr) -> String {
    SocketAddr::new(address.ip().to_canonical(), address.port()).to_string()
}

/// Returns whether a client's id can be accepted. Logs will contain it.
fn is_id(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:+/=".contains(&byte);
    (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(is_allowed)
}

impl Observed {
    /// Id of the request.
    pub fn id(&self) -> &str {
        &self.entry.request_id
    }

    /// Records the status of the response, and adds the request id to its headers.
    pub fn answered<B>(&mut self, response: &mut Response<B>) {
        self.entry.status = response.status().as_u16();
        if let Ok(id) = HeaderValue::from_str(self.id()) {
            response.headers_mut().entry(REQUEST_ID).or_insert(id);
        }
    }

    /// Counts bytes of the body.
    pub fn sent(&mut self, bytes: usize) {
        self.entry.bytes += bytes as u64;
    }

    /// Records which side broke the response off.
    pub fn cut(&mut self, by: CutBy) {
        self.cut_by = Some(by);
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        let elapsed = self.since.elapsed();
        let entry = &mut self.entry;
        if let Some(span) = &mut self.span {
            let status = Some(entry.status).filter(|status| *status != CLIENT_GONE);
            spans::end(span, status, self.cut_by);
        }
        if let Some(metrics) = &self.observer.metrics {
            metrics.answered(&entry.method, entry.status, elapsed, self.cut_by);
        }
        if !self.observer.has_access_log {
            return;
        }
        entry.cut_by = self.cut_by.map(CutBy::name);
        entry.duration_ms = elapsed.as_micros() as f64 / 1000.0;
        if let Ok(line) = serde_json::to_vec(entry) {
            log_on_stdout(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_be_taken_for_something_else_in_a_log_is_not_taken_over() {
        for id in ["7", "188b2f5e6d3a4c10-7", "b3JkZXI=", "a:b/c.d_e"] {
            assert!(is_id(id), "{id}");
        }
        for id in ["", "error: something", "a\tb", &"x".repeat(LONGEST_ID + 1)] {
            assert!(!is_id(id), "{id}");
        }
    }
}
