//! Which trace a request is a part of (W3C Trace Context), to be passed on with those that a guest sends for it.

use hyper::header::{HeaderMap, HeaderName, HeaderValue};

/// Section 3.2.
const PARENT: HeaderName = HeaderName::from_static("traceparent");

/// Section 3.3.
pub const STATE: HeaderName = HeaderName::from_static("tracestate");

/// The longest state that is passed on, in bytes: 512 are the least that there has to be room for (section 3.3.1.5).
const LONGEST_STATE: usize = 4 << 10;

/// The hexadecimal digits of version, trace, parent and flags (section 3.2.2).
const DIGITS: [usize; 4] = [2, 32, 16, 2];

/// A trace.
#[derive(Debug, Clone)]
pub struct Trace {
    parent: HeaderValue,
    state: Option<HeaderValue>,
}

impl Trace {
    /// None where the header is not there, or is not one.
    pub fn of(headers: &HeaderMap) -> Option<Trace> {
        let parent = headers.get(PARENT)?;
        let mut fields = parent.to_str().ok()?.split('-');
        let is_field = |digits: usize| {
            fields.next().is_some_and(|field| {
                field.len() == digits
                    && field.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
            })
        };
        let is_one = DIGITS.into_iter().all(is_field) && fields.next().is_none();
        let state = headers.get(STATE).filter(|state| state.len() <= LONGEST_STATE);
        is_one.then(|| Trace { parent: parent.clone(), state: state.cloned() })
    }

    /// Its id, 32 hexadecimal digits.
    pub fn id(&self) -> &str {
        self.parent.to_str().ok().and_then(|parent| parent.split('-').nth(1)).unwrap_or_default()
    }

    /// Makes a request a part of it that is of none.
    pub fn go_on(&self, headers: &mut HeaderMap) {
        if headers.contains_key(PARENT) {
            return;
        }
        headers.insert(PARENT, self.parent.clone());
        if let Some(state) = &self.state {
            headers.insert(STATE, state.clone());
        }
    }
}

#[cfg(test)]
mod tests {
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
        for parent in
            ["", "00-4bf92f3577b34da6a3ce929d0e0e4736", &PARENT_OF_SPEC.to_uppercase(), &long]
        {
            assert!(Trace::of(&headers(parent)).is_none(), "{parent}");
        }
        assert!(Trace::of(&HeaderMap::new()).is_none());
    }
}
