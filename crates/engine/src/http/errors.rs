//! Maps failures of connections and bodies to the errors of `wasi:http`, and those to the codes of 0.2.

use std::error::Error as StdError;
use std::io;

use hyper_util::client::legacy::Error as ClientError;
use text::causes;
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::bindings::http::types::{
    DnsErrorPayload, ErrorCode, TlsAlertReceivedPayload,
};

use crate::guard::Denied;

/// The error of a request that a guest sent.
pub fn of_sending(error: &ClientError) -> Error {
    if causes(error).any(|cause| cause.is::<Denied>()) {
        return Error::HttpRequestDenied;
    }
    let known = causes(error).find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<hyper::Error>() {
            return Some(of_http(error));
        }
        cause.downcast_ref::<io::Error>().and_then(of_connection)
    });
    // getaddrinfo(3) has error codes of its own, which hyper's connector converts to text.
    let is_dns = || causes(error).any(|cause| cause.to_string().starts_with("dns error"));
    known.unwrap_or_else(|| match error.is_connect() && is_dns() {
        true => Error::DnsError { rcode: None, info_code: None },
        false => unknown(error),
    })
}

/// The error of the body of a response that a guest reads.
pub fn of_response_body(error: &hyper::Error) -> Error {
    match causes(error).find_map(of_arriving) {
        Some(Arriving::Ended) => Error::HttpResponseIncomplete,
        Some(Arriving::Malformed) => Error::HttpProtocolError,
        None => of_http(error),
    }
}

/// The error of the body of a request that a guest reads.
pub fn of_request_body(error: &hyper::Error) -> Error {
    match causes(error).find_map(of_arriving) {
        Some(Arriving::Malformed) => Error::HttpProtocolError,
        // The client went away or reset the stream. hyper reports neither as an error of the connection.
        Some(Arriving::Ended) | None => Error::ConnectionTerminated,
    }
}

/// Fault of an arriving body.
enum Arriving {
    /// It stopped before its end.
    Ended,
    /// Its chunks, frames or lengths are not valid HTTP.
    Malformed,
}

fn of_arriving(cause: &(dyn StdError + 'static)) -> Option<Arriving> {
    if let Some(error) = cause.downcast_ref::<h2::Error>() {
        let is_reset = matches!(error.reason(), Some(h2::Reason::CANCEL | h2::Reason::NO_ERROR));
        let is_malformed = error.reason().is_some() && !is_reset;
        return is_malformed.then_some(Arriving::Malformed);
    }
    match cause.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::UnexpectedEof => Some(Arriving::Ended),
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Some(Arriving::Malformed),
        _ => None,
    }
}

fn of_http(error: &hyper::Error) -> Error {
    for cause in causes(error) {
        // The guest's own body broke off.
        match cause.downcast_ref::<Error>() {
            Some(Error::HttpRequestBodySize(size)) => return Error::HttpRequestBodySize(*size),
            Some(error) => return unknown(error),
            None => {}
        }
        if let Some(error) = cause.downcast_ref::<io::Error>().and_then(of_connection) {
            return error;
        }
    }
    match error {
        error if error.is_timeout() => Error::HttpResponseTimeout,
        error if error.is_incomplete_message() => Error::HttpResponseIncomplete,
        error if error.is_closed() || error.is_canceled() => Error::ConnectionTerminated,
        error if error.is_parse() => Error::HttpProtocolError,
        _ => unknown(error),
    }
}

fn of_connection(error: &io::Error) -> Option<Error> {
    let inner = error.get_ref();
    if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return Some(match error {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
                Error::TlsCertificateError
            }
            _ => Error::TlsProtocolError,
        });
    }
    if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<io::Error>()) {
        return of_connection(error);
    }
    Some(match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            Error::DestinationUnavailable
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => Error::ConnectionTerminated,
        _ => return None,
    })
}

fn unknown(error: &(dyn StdError + 'static)) -> Error {
    Error::InternalError(Some(text::with_causes(error)))
}

/// The code that `http-error-code` of 0.2 returns for an error of a stream. `wasmtime-wasi-http` has this conversion, but not
/// in its public interface. Errors that no body here produces become internal errors with their text.
pub fn code(error: &Error) -> ErrorCode {
    match error {
        Error::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        Error::ConnectionRefused => ErrorCode::ConnectionRefused,
        Error::ConnectionTimeout => ErrorCode::ConnectionTimeout,
        Error::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        Error::ConnectionWriteTimeout => ErrorCode::ConnectionWriteTimeout,
        Error::DestinationUnavailable => ErrorCode::DestinationUnavailable,
        Error::DnsError { rcode, info_code } => {
            ErrorCode::DnsError(DnsErrorPayload { rcode: rcode.clone(), info_code: *info_code })
        }
        Error::TlsCertificateError => ErrorCode::TlsCertificateError,
        Error::TlsProtocolError => ErrorCode::TlsProtocolError,
        Error::TlsAlertReceived { alert_id, alert_message } => {
            let (alert_id, alert_message) = (*alert_id, alert_message.clone());
            ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload { alert_id, alert_message })
        }
        Error::HttpRequestBodySize(size) => ErrorCode::HttpRequestBodySize(*size),
        Error::HttpResponseBodySize(size) => ErrorCode::HttpResponseBodySize(*size),
        Error::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        Error::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        Error::HttpProtocolError => ErrorCode::HttpProtocolError,
        Error::ConfigurationError => ErrorCode::ConfigurationError,
        Error::InternalError(text) => ErrorCode::InternalError(text.clone()),
        error => ErrorCode::InternalError(Some(error.to_string())),
    }
}
