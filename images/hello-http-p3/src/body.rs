//! Bodies of responses. Tasks write them, and continue after the response was returned.

use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::http::types::{ErrorCode, Request, Trailers};
use wasip3::wit_bindgen::{FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

/// Size of one read, in bytes.
const CHUNK: usize = 4096;

/// One hour, in nanoseconds.
const HOUR: u64 = 3_600_000_000_000;

/// The content of each row.
const ROW: &str = "row\n";

/// A body: its content, and the trailers after it.
pub type Body = (StreamReader<u8>, FutureReader<Result<Option<Trailers>, ErrorCode>>);

/// Returns a body with this text.
pub fn text(text: String) -> Body {
    let (mut writer, content) = wit_stream::new();
    // The client may be gone. Then nothing can be done about the rest.
    spawn_local(async move { drop(writer.write_all(text.into()).await) });
    // A future that is never written has its default value.
    let (_, trailers) = wit_future::new(|| Ok(None));
    (content, trailers)
}

/// Sends three rows, and then the given end.
pub fn rows(then: String) -> Body {
    let (writer, content) = wit_stream::new();
    let (result, trailers) = wit_future::new(|| Ok(None));
    spawn_local(write_rows(then, writer, result));
    (content, trailers)
}

async fn write_rows(
    then: String,
    mut writer: StreamWriter<u8>,
    result: FutureWriter<Result<Option<Trailers>, ErrorCode>>,
) {
    for _ in 0..3 {
        if !writer.write_all(ROW.into()).await.is_empty() {
            return;
        }
    }
    match &*then {
        "trap" => std::process::abort(),
        // Both stay open.
        "forget" => std::mem::forget((writer, result)),
        "wait" => wait_for(HOUR).await,
        "error" => {
            drop(writer);
            let _ = result.write(Err(ErrorCode::InternalError(None))).await;
        }
        // Both are closed, and the result has its default value.
        _ => {}
    }
}

/// Returns the body of the request itself.
pub fn of(request: Request) -> Body {
    let (_, received) = wit_future::new(|| Ok(()));
    Request::consume_body(request, received)
}

/// Returns a body with the request's content, which is sent while it is still arriving.
pub fn copy_of(request: Request) -> Body {
    let (incoming, trailers) = of(request);
    let (writer, content) = wit_stream::new();
    spawn_local(copy(incoming, writer));
    (content, trailers)
}

/// Writes what arrives until its end, or until the reader is gone.
async fn copy(mut incoming: StreamReader<u8>, mut writer: StreamWriter<u8>) {
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        let (result, read) = incoming.read(chunk).await;
        let rest = writer.write_all(read).await;
        if !matches!(result, StreamResult::Complete(_)) || !rest.is_empty() {
            return;
        }
        // `write_all` returns the buffer empty.
        chunk = rest;
    }
}
