//! Bodies of responses: they are written by tasks that go on after the response was returned.

use wasip3::http::types::{ErrorCode, Request, Trailers};
use wasip3::wit_bindgen::{FutureReader, StreamReader, StreamResult, StreamWriter};
use wasip3::{spawn_local, wit_future, wit_stream};

/// How much is read at a time.
const CHUNK: usize = 4096;

/// A body: its content, and the trailers after it.
pub type Body = (StreamReader<u8>, FutureReader<Result<Option<Trailers>, ErrorCode>>);

/// A body that is this text.
pub fn text(text: &'static str) -> Body {
    let (mut writer, content) = wit_stream::new();
    // The client may be gone; then there is nobody to tell what was left over.
    spawn_local(async move { drop(writer.write_all(text.into()).await) });
    // A future that nobody writes has its default value.
    let (_, trailers) = wit_future::new(|| Ok(None));
    (content, trailers)
}

/// A body that is the request's, sent while it is still arriving.
pub fn copy_of(request: Request) -> Body {
    let (_, received) = wit_future::new(|| Ok(()));
    let (incoming, trailers) = Request::consume_body(request, received);
    let (writer, content) = wit_stream::new();
    spawn_local(copy(incoming, writer));
    (content, trailers)
}

/// Writes what arrives until its end, or until nobody wants it any more.
async fn copy(mut incoming: StreamReader<u8>, mut writer: StreamWriter<u8>) {
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        let (result, read) = incoming.read(chunk).await;
        let rest = writer.write_all(read).await;
        if !matches!(result, StreamResult::Complete(_)) || !rest.is_empty() {
            return;
        }
        // `write_all` gives the buffer back, empty.
        chunk = rest;
    }
}
