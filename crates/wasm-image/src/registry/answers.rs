//! Turns error responses of a registry into errors of this program.

use std::time::{Duration, SystemTime};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use rustls::CertificateError::UnknownIssuer;
use serde::Deserialize;

use super::origin::Plain;
use super::{Remote, Task, proxy, trust};
use crate::errors::Error;
use crate::limits::{LONGEST_ASKED_WAIT, MESSAGE_BYTES};

/// Error message of a registry (OCI distribution specification, "Error Codes").
#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Said>,
}

#[derive(Deserialize)]
struct Said {
    code: String,
    #[serde(default)]
    message: String,
}

/// Returns the error for an answer without success.
pub async fn error(remote: &Remote, task: &Task<'_>, mut answer: Response) -> Error {
    let (status, wait) = (answer.status(), asked_wait(answer.headers()));
    let said = said(&body(&mut answer).await);
    let (registry, what) = (remote.registry().to_owned(), task.what.to_owned());
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => denied(remote, task.what, status, said),
        StatusCode::NOT_FOUND => {
            Error::NotFound { place: remote.title(), what: task.subject.to_owned() }
        }
        _ if is_passing(status) => {
            let reason = format!("{}{}", in_words(status), brackets(said)) + &too_long(wait);
            Error::Unavailable { registry, what, reason, wait, attempts: String::new() }
        }
        _ => {
            // An answer to HEAD has no body, so it cannot contain a text such as Go's "HTTP request to an HTTPS
            // server".
            let is_tls = status == StatusCode::BAD_REQUEST && said.is_empty() && remote.is_plain();
            let advice = if is_tls { "; if it speaks TLS, omit --plain-http" } else { "" };
            let reason = in_words(status) + &brackets(said) + advice;
            Error::Refused { registry, what, reason }
        }
    }
}

/// Returns the error if the registry does not accept the credentials for an action.
pub fn denied(remote: &Remote, what: &str, status: StatusCode, said: String) -> Error {
    Error::Denied {
        registry: remote.registry().to_owned(),
        who: remote.auth.who(),
        what: what.to_owned(),
        status: status.as_u16(),
        detail: brackets(said),
        advice: remote.auth.advice(remote.registry()),
    }
}

/// Returns the error if the registry redirects this program to an unencrypted place.
pub fn unencrypted(registry: &str, what: &str, plain: &Plain) -> Error {
    let (registry, what) = (registry.to_owned(), what.to_owned());
    Error::Unencrypted { registry, what, url: plain.0.clone() }
}

/// Returns the error for an answer that is a success in HTTP but not in the registry API.
pub async fn no_registry(
    remote: &Remote,
    task: &Task<'_>,
    mut answer: Response,
    expected: &str,
) -> Error {
    let status = in_words(answer.status());
    let came = first_line(&body(&mut answer).await);
    let came = came.map(|line| format!(" and \"{line}\"")).unwrap_or_default();
    let (registry, what) = (remote.registry().to_owned(), task.what.to_owned());
    Error::NoRegistry { registry, what, reason: format!("{status}{came}; expected is {expected}") }
}

/// Returns the same error for a body that was already read.
pub fn no_manifest(registry: &str, what: &str, body: &[u8]) -> Error {
    let came = first_line(body).map_or("nothing".to_owned(), |line| format!("\"{line}\""));
    let (registry, what) = (registry.to_owned(), what.to_owned());
    Error::NoRegistry { registry, what, reason: format!("{came} is not a manifest") }
}

/// Returns the error if there was no answer.
pub fn unreachable(registry: &str, what: &str, error: &reqwest::Error) -> Error {
    if let Some(plain) = causes(error).find_map(|it| it.downcast_ref()) {
        return unencrypted(registry, what, plain);
    }
    let (registry, what) = (registry.to_owned(), what.to_owned());
    if let Some(tls) = causes(error).find_map(|it| it.downcast_ref()) {
        return Error::Tls { registry, what, reason: no_tls(tls) };
    }
    if causes(error).filter_map(|it| it.downcast_ref()).any(hyper::Error::is_parse) {
        let reason = format!("it does not speak HTTP ({})", innermost(error));
        return Error::NoRegistry { registry, what, reason };
    }
    let by_way = error.url().and_then(proxy::of);
    let by_way = by_way.map(|it| format!(" by way of the proxy {it}")).unwrap_or_default();
    let reason = match error {
        _ if error.is_connect() => format!("no connection{by_way} ({})", innermost(error)),
        _ if error.is_timeout() => format!("it was silent for too long{by_way}"),
        _ => format!("the line was cut{by_way} ({})", innermost(error)),
    };
    match error.is_redirect() || error.is_builder() {
        true => Error::Refused { registry, what, reason: innermost(error) },
        false => Error::Unavailable { registry, what, reason, wait: None, attempts: String::new() },
    }
}

/// Returns why TLS fails, and what to do.
fn no_tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(UnknownIssuer) => {
            format!(
                "its certificate is signed by an authority that is not trusted; {}",
                trust::ADVICE
            )
        }
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS (for a registry on this machine, give --plain-http)".into()
        }
        other => other.to_string(),
    }
}

/// Returns whether the same request may succeed a little later.
fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

/// Returns the innermost cause, because the others only say that there was a request.
pub fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    causes(error).last().unwrap_or(error).to_string()
}

/// Returns an error and its causes, including those inside an I/O error.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |&it| match it.downcast_ref::<std::io::Error>() {
        Some(io) => io.get_ref().map(|packed| packed as &(dyn std::error::Error + 'static)),
        None => it.source(),
    })
}

/// Parses `Retry-After`, in seconds or as a date (RFC 9110, section 10.2.3).
fn asked_wait(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

fn too_long(wait: Option<Duration>) -> String {
    match wait {
        Some(wait) if wait > LONGEST_ASKED_WAIT => {
            format!("; it asks to wait {} s, which is too long", wait.as_secs())
        }
        _ => String::new(),
    }
}

async fn body(answer: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Some(part)) = answer.chunk().await {
        body.extend_from_slice(&part);
        if body.len() > MESSAGE_BYTES {
            break;
        }
    }
    body
}

fn said(body: &[u8]) -> String {
    let Ok(Envelope { errors }) = serde_json::from_slice(body) else {
        return first_line(body).map(|line| format!("\"{line}\"")).unwrap_or_default();
    };
    let one = |it: Said| match it.message.is_empty() {
        true => it.code,
        false => format!("{}: {}", it.code, it.message),
    };
    let text: Vec<String> = errors.into_iter().take(3).map(one).collect();
    text.join("; ").chars().filter(|it| !it.is_control()).take(300).collect()
}

/// Number of characters that an error shows of a line that no registry writes. They are enough to recognise its source.
const LINE_CHARS: usize = 80;

/// Returns the first line that is not empty.
fn first_line(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|it| !it.is_control()).take(LINE_CHARS).collect())
}

fn brackets(said: String) -> String {
    if said.is_empty() { said } else { format!(" ({said})") }
}

fn in_words(status: StatusCode) -> String {
    let words = status.canonical_reason().unwrap_or("no known status");
    format!("HTTP {} {}", status.as_u16(), words.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_asked_for_in_seconds_or_by_a_date() {
        let asked = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            asked_wait(&headers)
        };
        assert_eq!(asked("3"), Some(Duration::from_secs(3)));
        assert_eq!(asked("Thu, 01 Jan 1970 00:00:01 GMT"), Some(Duration::ZERO));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(600));
        assert!(asked(&soon).is_some_and(|it| it > Duration::from_secs(500)));
        assert_eq!(asked("soon"), None);
        assert_eq!(asked_wait(&HeaderMap::new()), None);
    }

    #[test]
    fn what_the_registry_says_is_quoted_on_one_line() {
        let body = br#"{"errors":[{"code":"DENIED","message":"no\nway"},{"code":"UNSUPPORTED"}]}"#;
        assert_eq!(said(body), "DENIED: noway; UNSUPPORTED");
        assert_eq!(said(b"\n  <html>\x1b\n<body>"), "\"<html>\"");
        assert_eq!(said(b"\n"), "");
    }

    #[test]
    fn overload_passes_and_a_mistake_does_not() {
        for (status, passes) in [(429, true), (500, true), (503, true), (400, false), (501, false)]
        {
            assert_eq!(is_passing(StatusCode::from_u16(status).unwrap()), passes, "{status}");
        }
    }
}
