//! A `wasi:http` 0.2 handler that stores values through `wasi:keyvalue`.
//!
//! | request | answer |
//! |---|---|
//! | `GET /KEY` | the value, or 404 |
//! | `POST /KEY` | `kept`, after the request's body was stored as the value |
//! | `DELETE /KEY` | `deleted` |
//! | `GET /` | all keys, one per line |
//! | `POST /KEY?add=N` | the value, after N was added to it |
//! | `POST /KEY?append=TEXT` | `kept`, after the text was appended to the latest value |
//! | `GET /?many=KEY,KEY` | the existing values of these keys, one per line |
//! | `POST /?many=KEY,KEY` | `kept`, after each key was stored as its own value |
//! | `DELETE /?many=KEY,KEY` | `deleted` |
//! | `GET /?store=NAME` | `open`, if a store of that name exists |
//!
//! If the store refuses something, the answer is 500 with the reason.

mod bindings {
    wit_bindgen::generate!({ path: "wit", world: "hello", generate_all });
}

use bindings::wasi::keyvalue::atomics::{Cas, CasError, increment, swap};
use bindings::wasi::keyvalue::batch::{delete_many, get_many, set_many};
use bindings::wasi::keyvalue::store::{Bucket, Error, open};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

/// Largest write of `blocking-write-and-flush`, in bytes.
const CHUNK: usize = 4096;

/// Size of one read of a body, in bytes.
const PIECE: u64 = 64 << 10;

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, body) = match answer(&request) {
            Ok(Some(body)) => (200, body),
            Ok(None) => (404, b"there is no such key\n".to_vec()),
            Err(error) => (500, format!("{error:?}\n").into_bytes()),
        };
        let response = OutgoingResponse::new(Fields::new());
        let _ = response.set_status_code(status);
        let outgoing = response.body().expect("the body is taken only here");
        ResponseOutparam::set(out, Ok(response));
        let stream = outgoing.write().expect("the stream is taken only here");
        for chunk in body.chunks(CHUNK) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                return;
            }
        }
        drop(stream);
        let _ = OutgoingBody::finish(outgoing, None);
    }
}

fn answer(request: &IncomingRequest) -> Result<Option<Vec<u8>>, Error> {
    let target = request.path_with_query().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (name, value) = query.split_once('=').unwrap_or((query, ""));
    let bucket = open(if name == "store" { value } else { "default" })?;
    let key = path.trim_start_matches('/');
    let keys = || value.split(',').map(str::to_owned).collect::<Vec<_>>();
    let kept = |(): ()| Some(b"kept\n".to_vec());
    let deleted = |(): ()| Some(b"deleted\n".to_vec());
    match (request.method(), name) {
        (_, "store") => Ok(Some(b"open\n".to_vec())),
        (Method::Get, "many") => {
            let found = get_many(&bucket, &keys())?;
            let lines =
                found.into_iter().flatten().map(|(_, value)| [value, b"\n".to_vec()].concat());
            Ok(Some(lines.collect::<Vec<_>>().concat()))
        }
        (Method::Post, "many") => {
            let entries = keys().into_iter().map(|key| (key.clone(), key.into_bytes()));
            set_many(&bucket, &entries.collect::<Vec<_>>()).map(kept)
        }
        (Method::Delete, "many") => delete_many(&bucket, &keys()).map(deleted),
        (Method::Post, "add") => {
            let sum = increment(&bucket, key, value.parse().unwrap_or(0))?;
            Ok(Some(format!("{sum}\n").into_bytes()))
        }
        (Method::Post, "append") => append(&bucket, key, value.as_bytes()).map(kept),
        (Method::Post, _) => bucket.set(key, &body(request)).map(kept),
        (Method::Delete, _) => bucket.delete(key).map(deleted),
        _ if key.is_empty() => all_keys(&bucket).map(Some),
        _ => bucket.get(key),
    }
}

/// Appends to the value. If another request has replaced it in the meantime, appends to the new value.
fn append(bucket: &Bucket, key: &str, text: &[u8]) -> Result<(), Error> {
    let mut cas = Cas::new(bucket, key)?;
    loop {
        let value = [cas.current()?.unwrap_or_default(), text.to_vec()].concat();
        cas = match swap(cas, &value) {
            Ok(()) => return Ok(()),
            Err(CasError::CasFailed(newer)) => newer,
            Err(CasError::StoreError(error)) => return Err(error),
        };
    }
}

fn all_keys(bucket: &Bucket) -> Result<Vec<u8>, Error> {
    let (mut text, mut cursor) = (String::new(), None);
    loop {
        let page = bucket.list_keys(cursor.as_deref())?;
        text.extend(page.keys.iter().flat_map(|key| [key, "\n"]));
        cursor = page.cursor;
        if cursor.is_none() {
            return Ok(text.into_bytes());
        }
    }
}

fn body(request: &IncomingRequest) -> Vec<u8> {
    let incoming: IncomingBody = request.consume().expect("the body is taken only here");
    let stream = incoming.stream().expect("the stream is taken only here");
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(PIECE) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => return bytes,
        }
    }
}
