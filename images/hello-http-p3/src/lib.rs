//! A `wasi:http` 0.3 handler: every request is answered 200.
//!
//! | request | answer |
//! |---|---|
//! | `/echo` | the request's body and trailers, streamed back |
//! | any other | a greeting |
#![forbid(unsafe_code)]

mod body;

use wasip3::http::types::{ErrorCode, Fields, Request, Response};

/// The text for whoever asks for nothing in particular.
const GREETING: &str = "hello from WASI 0.3\n";

struct Hello;

wasip3::http::service::export!(Hello);

impl wasip3::exports::http::handler::Guest for Hello {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        let (content, trailers) = match path {
            "/echo" => body::copy_of(request),
            _ => body::text(GREETING),
        };
        let headers = Fields::new();
        let _ = headers.append("content-type", b"text/plain");
        // The status is 200 unless another is set; whether the body arrived is the host's concern.
        let (response, _sent) = Response::new(headers, Some(content), trailers);
        Ok(response)
    }
}
