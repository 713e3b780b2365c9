//! Sends a request of the guest's own.

use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, OutgoingRequest, Scheme,
};
use wasip2::io::streams::StreamError;

use crate::body;

/// Size of one read of a body, in bytes.
const CHUNK: u64 = 4096;

/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// Returns the status and the body of a URL, `http://` or `https://`, or the host's reason why there is none. Follows
/// redirects.
pub fn fetch(url: &str) -> Result<String, String> {
    let mut url = url.to_owned();
    for _ in 0..REDIRECTS {
        let response = get(&url)?;
        match response.headers().get("location").first() {
            Some(location) => url = String::from_utf8_lossy(location).into_owned(),
            None => return shown(&response),
        }
    }
    Err("too many redirects".to_owned())
}

fn get(url: &str) -> Result<IncomingResponse, String> {
    let (scheme, rest) = url.split_once("://").ok_or("no scheme")?;
    let (authority, path) = rest.find('/').map_or((rest, "/"), |slash| rest.split_at(slash));
    let request = OutgoingRequest::new(Fields::new());
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).map_err(|()| "not a scheme")?;
    request.set_authority(Some(authority)).map_err(|()| "not an authority")?;
    request.set_path_with_query(Some(path)).map_err(|()| "not a path")?;
    send(request).map_err(|code| format!("{code:?}"))
}

fn shown(response: &IncomingResponse) -> Result<String, String> {
    let status = response.status();
    let body = response.consume().map_err(|()| "no body")?;
    Ok(format!("{status}\n{}", read(&body)?))
}

fn send(request: OutgoingRequest) -> Result<IncomingResponse, ErrorCode> {
    let pending = outgoing_handler::handle(request, None)?;
    pending.subscribe().block();
    // It is ready, and is only asked once.
    pending.get().expect("ready").expect("asked once")
}

fn read(body: &IncomingBody) -> Result<String, String> {
    let input = body.stream().map_err(|()| "no stream")?;
    let mut text = Vec::new();
    loop {
        match input.blocking_read(CHUNK) {
            Ok(bytes) => text.extend(bytes),
            Err(StreamError::Closed) => return Ok(String::from_utf8_lossy(&text).into_owned()),
            Err(error) => return Err(body::reason(&error)),
        }
    }
}
