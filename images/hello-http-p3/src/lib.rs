//! A `wasi:http` 0.3 handler that answers every request with 200.
//!
//! | request | answer |
//! |---|---|
//! | `/echo` | the request's body and trailers, streamed back |
//! | `/pass` | the same, without reading it |
//! | `/rows?then=END` | three rows, and then an end: `finish`, or one that does not finish: `trap`, `forget`, `error`, `wait` (for an hour) |
//! | `/scheme` | the request's scheme, and its authority |
//! | `/fetch?url=AUTHORITY` | the status of `http://AUTHORITY/`, or the host's reason why there is none |
//! | any other | a greeting |
#![forbid(unsafe_code)]

mod body;
mod fetch;

use wasip3::http::types::{ErrorCode, Fields, Request, Response, Scheme};

/// The text for all other requests.
const GREETING: &str = "hello from WASI 0.3\n";

const TRAILER: &str = "trailer";

struct Hello;

wasip3::http::service::export!(Hello);

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let headers = Fields::new();
        let _ = headers.append("content-type", b"text/plain");
        // HTTP/1.1 sends trailers only if they are announced (RFC 9110, section 6.6.2).
        for names in request.get_headers().get(TRAILER) {
            let _ = headers.append(TRAILER, &names);
        }
        let (content, trailers) = match path {
            "/echo" => body::copy_of(request),
            "/pass" => body::of(request),
            "/rows" => body::rows(query.strip_prefix("then=").unwrap_or_default().to_owned()),
            "/fetch" => {
                let url = query.strip_prefix("url=").unwrap_or_default();
                body::text(fetch::fetch(url).await)
            }
            "/scheme" => body::text(scheme(&request)),
            _ => body::text(GREETING.to_owned()),
        };
        // The status is 200 unless another is set. The host reports whether the body arrived.
        let (response, _sent) = Response::new(headers, Some(content), trailers);
        Ok(response)
    }
}

fn scheme(request: &Request) -> String {
    let scheme = match request.get_scheme() {
        Some(Scheme::Http) => "http",
        Some(Scheme::Https) => "https",
        _ => "none",
    };
    format!("{scheme}://{}\n", request.get_authority().unwrap_or_default())
}
