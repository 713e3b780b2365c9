//! A response of some rows, and what becomes of it then.

use wasip2::http::types::{Fields, OutgoingResponse, ResponseOutparam};

use crate::body::Body;

/// What each row is.
const ROW: &str = "row\n";

/// More than three rows are, in bytes.
const ANNOUNCED: &str = "100";

/// What is asked for at a time of a memory that has a limit, in bytes.
const PIECE: usize = 16 << 20;

/// Sends three rows, and goes on as `then` says: `finish`, or an end that is none.
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
        // Neither finished nor dropped.
        "forget" => std::mem::forget(body),
        "drop" => drop(body),
        "finish-and-trap" => {
            let _ = body.finish();
            std::process::abort()
        }
        _ => drop(body.finish()),
    }
}

/// Takes memory until there is none, which traps.
fn exhaust() {
    let mut taken = Vec::new();
    loop {
        taken.push(std::hint::black_box(vec![1_u8; PIECE]));
    }
}
