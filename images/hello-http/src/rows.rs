//! Sends a response of some rows, with a given end.

use wasip2::http::types::{Fields, OutgoingResponse, ResponseOutparam};

use crate::body::Body;

/// The content of each row.
const ROW: &str = "row\n";

/// A length larger than that of three rows, in bytes.
const ANNOUNCED: &str = "100";

/// Size of one allocation when memory is exhausted, in bytes.
const PIECE: usize = 16 << 20;

/// Sends three rows, and continues as `then` says: `finish`, or an end that does not finish.
pub fn answer(then: &str, out: ResponseOutparam) {
    let headers = Fields::new();
    if then == "short" {
        let _ = headers.append("content-length", ANNOUNCED.as_bytes());
    }
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("the body is taken only here");
    ResponseOutparam::set(out, Ok(response));
    let body = Body::new(body);
    for _ in 0..3 {
        if body.write(ROW.as_bytes()).is_err() {
            return;
        }
    }
    match then {
        "trap" => std::process::abort(),
        "exit" => std::process::exit(1),
        "memory" => exhaust(),
        // The body is neither finished nor dropped.
        "forget" => std::mem::forget(body),
        "drop" => drop(body),
        "finish-and-trap" => {
            let _ = body.finish();
            std::process::abort()
        }
        _ => drop(body.finish()),
    }
}

/// Allocates memory until there is none, which traps.
fn exhaust() {
    let mut taken = Vec::new();
    loop {
        taken.push(std::hint::black_box(vec![1_u8; PIECE]));
    }
}
