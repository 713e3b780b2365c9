//! A `wasi:http` 0.2 handler that shows, on request, what a server can use.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | a greeting |
//! | `GET /env/NAME` | the variable's value, or 404 |
//! | `GET /args` | the arguments, one per line |
//! | `GET /file?path=PATH` | the file's content, or 404 with the operating system's error |
//! | `/echo`, by any method | the request's body, streamed back |
//! | `GET /log?text=MESSAGE` | `logged`, after writing the message, which may be percent-encoded, to stdout and stderr |
//! | `GET /trap` | none: the guest traps |
//! | `GET /spin` | none: the guest runs in a loop |
//! | `GET /fetch?url=URL` | the status and body of the URL, after redirects, or 502 with the reason |
//! | `/length`, by any method | the length of the request's body in bytes, once all of it has arrived |
//! | `GET /bytes?count=N` | N bytes |
//! | `GET /events` | an event ten times a second, until the client closes the connection (`text/event-stream`) |
//! | `GET /rows?then=END` | three rows, and then an end: `finish`, `finish-and-trap`, or one that does not finish: `trap`, `exit`, `memory` (until there is none), `forget`, `drop`, `short` (fewer bytes than the head says) |
//! | `GET /scheme` | the request's scheme, and its authority |
//! | `GET /count` | the number of requests to this instance |
#![forbid(unsafe_code)]

mod body;
mod fetch;
mod rows;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingResponse, ResponseOutparam, Scheme};

/// The media type of most answers.
const TEXT: &str = "text/plain";

struct Hello;

static COUNT: AtomicU32 = AtomicU32::new(0);

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let value = query.split_once('=').map_or("", |(_, value)| value);
        let (status, text) = match path {
            "/echo" => return echo(request, out),
            "/events" => return events(out),
            "/rows" => return rows::answer(value, out),
            "/scheme" => scheme(&request),
            "/length" => length(&request),
            "/bytes" => match value.parse() {
                Ok(count) => return bytes(count, out),
                Err(error) => (400, format!("{value}: {error}\n")),
            },
            _ => answer(path, value),
        };
        let body = begin(out, status, TEXT);
        // The client may be gone. Then nothing can be done about it.
        let _ = body.write(text.as_bytes()).and_then(|()| body.finish());
    }
}

/// Returns status and text of everything except the echo.
fn answer(path: &str, value: &str) -> (u16, String) {
    if let Some(name) = path.strip_prefix("/env/") {
        return found(std::env::var(name).map_err(|error| format!("{name}: {error}")));
    }
    match path {
        "/" => (200, "hello from wasi:http\n".into()),
        "/args" => (200, std::env::args().map(|arg| arg + "\n").collect()),
        // Proxies, including that of the API server, encode slashes.
        "/file" => found(read_file(&value.replace("%2F", "/"))),
        "/fetch" => fetch::fetch(&value.replace("%2F", "/"))
            .map_or_else(|error| (502, error), |text| (200, text)),
        "/log" => (200, log(value)),
        "/trap" => std::process::abort(),
        "/spin" => loop {
            std::hint::black_box(());
        },
        "/count" => (200, format!("{}\n", COUNT.fetch_add(1, Ordering::Relaxed) + 1)),
        _ => (404, format!("nothing at {path}\n")),
    }
}

fn found(answer: Result<String, String>) -> (u16, String) {
    match answer {
        Ok(text) => (200, text),
        Err(message) => (404, message + "\n"),
    }
}

fn read_file(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
}

fn log(message: &str) -> String {
    let message = percent_decode_str(message).decode_utf8_lossy();
    println!("stdout: {message}");
    eprintln!("stderr: {message}");
    "logged\n".into()
}

/// Streams the request's body back while it is still arriving.
fn echo(request: IncomingRequest, out: ResponseOutparam) {
    let incoming = request.consume().expect("the body is taken only here");
    let body = begin(out, 200, TEXT);
    let _ = body.copy_from(&incoming).and_then(|()| body.finish());
}

fn scheme(request: &IncomingRequest) -> (u16, String) {
    let scheme = match request.scheme() {
        Some(Scheme::Http) => "http",
        Some(Scheme::Https) => "https",
        _ => "none",
    };
    (200, format!("{scheme}://{}\n", request.authority().unwrap_or_default()))
}

fn length(request: &IncomingRequest) -> (u16, String) {
    match body::length(&request.consume().expect("the body is taken only here")) {
        Ok(length) => (200, format!("{length}\n")),
        Err(error) => {
            eprintln!("the body broke off: {}", body::reason(&error));
            // The host reports what happened to the body.
            (400, "the body broke off\n".into())
        }
    }
}

fn bytes(count: u64, out: ResponseOutparam) {
    let body = begin(out, 200, "application/octet-stream");
    let piece = [b'x'; 64 << 10];
    let mut rest = count;
    while rest > 0 {
        let length = usize::try_from(rest).map_or(piece.len(), |rest| rest.min(piece.len()));
        if body.write(&piece[..length]).is_err() {
            return;
        }
        rest -= length as u64;
    }
    let _ = body.finish();
}

fn events(out: ResponseOutparam) {
    let body = begin(out, 200, "text/event-stream");
    let mut number = 0;
    while body.write(format!("data: {number}\n\n").as_bytes()).is_ok() {
        number += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sends the head of the response.
fn begin(out: ResponseOutparam, status: u16, content_type: &str) -> body::Body {
    let headers = Fields::new();
    let _ = headers.append("content-type", content_type.as_bytes());
    let response = OutgoingResponse::new(headers);
    response.set_status_code(status).expect("the status codes used here are valid");
    let body = response.body().expect("the body is taken only here");
    ResponseOutparam::set(out, Ok(response));
    body::Body::new(body)
}
