//! The trace that a request belongs to (W3C Trace Context). It is passed on with the requests that a guest sends.

use hyper::header::{HeaderMap, HeaderName};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{SpanContext, TraceContextExt};
use opentelemetry_http::{HeaderExtractor, HeaderInjector};
use opentelemetry_sdk::propagation::TraceContextPropagator;

/// Header of the trace and its parent span (section 3.2).
const PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Header of the vendors' own state (section 3.3).
const STATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest state that is passed on, in bytes. The least that must be passed on is 512 (section 3.3.1.5).
const LONGEST_STATE: usize = 1 << 10;

/// Reads the headers of a request. The context has no span if they have no valid one.
pub fn extract(headers: &HeaderMap) -> Context {
    TraceContextPropagator::new()
        .extract_with_context(&Context::new(), &Bounded(HeaderExtractor(headers)))
}

/// Writes the headers of a request in place of those that it has.
pub fn inject(context: SpanContext, headers: &mut HeaderMap) {
    headers.remove(STATE);
    let has_state = !context.trace_state().header().is_empty();
    let context = Context::new().with_remote_span_context(context);
    TraceContextPropagator::new().inject_context(&context, &mut HeaderInjector(headers));
    if !has_state {
        headers.remove(STATE);
    }
}

/// Headers without a state that is too long.
struct Bounded<'a>(HeaderExtractor<'a>);

impl Extractor for Bounded<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).filter(|value| STATE != key || value.len() <= LONGEST_STATE)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys()
    }
}

/// A trace.
#[derive(Debug, Clone)]
pub struct Trace(SpanContext);

impl Trace {
    /// None if the headers have no valid trace.
    pub fn of(headers: &HeaderMap) -> Option<Trace> {
        let context = extract(headers);
        context.has_active_span().then(|| Trace(context.span().span_context().clone()))
    }

    /// Trace id, 32 hexadecimal digits.
    pub fn id(&self) -> String {
        self.0.trace_id().to_string()
    }

    /// Makes a request part of this trace unless it is part of one.
    pub fn go_on(&self, headers: &mut HeaderMap) {
        if !headers.contains_key(PARENT) {
            inject(self.0.clone(), headers);
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const PARENT_OF_SPEC: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(parent: &str) -> HeaderMap {
        let parent = HeaderValue::from_str(parent).expect("a value");
        let state = HeaderValue::from_static("vendor=1");
        HeaderMap::from_iter([(PARENT, parent), (STATE, state)])
    }

    #[test]
    fn a_trace_goes_on_in_a_request_that_is_of_none() {
        let trace = Trace::of(&headers(PARENT_OF_SPEC)).expect("a trace");
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let mut sent = HeaderMap::new();
        trace.go_on(&mut sent);
        assert_eq!(sent, headers(PARENT_OF_SPEC));
        let own = PARENT_OF_SPEC.replace("4bf9", "0000");
        let mut sent = headers(&own);
        trace.go_on(&mut sent);
        assert_eq!(sent[PARENT], own);
    }

    #[test]
    fn what_is_no_trace_is_not_passed_on() {
        let long = format!("{PARENT_OF_SPEC}{}", "-00".repeat(1000));
        let no_trace = PARENT_OF_SPEC.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32));
        let no_parent = PARENT_OF_SPEC.replace("00f067aa0ba902b7", &"0".repeat(16));
        let invalid_version = PARENT_OF_SPEC.replacen("00", "ff", 1);
        for parent in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736",
            &PARENT_OF_SPEC.to_uppercase(),
            &long,
            &no_trace,
            &no_parent,
            &invalid_version,
        ] {
            assert!(Trace::of(&headers(parent)).is_none(), "{parent}");
        }
        assert!(Trace::of(&HeaderMap::new()).is_none());
    }

    #[test]
    fn a_trace_of_a_later_version_goes_on_as_one_of_this() {
        let later = format!("{}-more", PARENT_OF_SPEC.replacen("00", "cc", 1));
        let mut sent = HeaderMap::new();
        Trace::of(&headers(&later)).expect("a trace").go_on(&mut sent);
        assert_eq!(sent, headers(PARENT_OF_SPEC));
    }

    #[test]
    fn a_state_that_is_too_long_is_left_out() {
        let mut received = headers(PARENT_OF_SPEC);
        let long = format!("vendor={}", "1".repeat(LONGEST_STATE));
        received.insert(STATE, HeaderValue::from_str(&long).expect("a value"));
        let mut sent = HeaderMap::new();
        Trace::of(&received).expect("a trace").go_on(&mut sent);
        assert_eq!(sent[PARENT], PARENT_OF_SPEC);
        assert!(!sent.contains_key(STATE));
    }
}
