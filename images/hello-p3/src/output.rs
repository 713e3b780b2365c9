//! Writes text to stdout or stderr.

use wasip3::cli::types::ErrorCode;
use wasip3::wit_bindgen::{FutureReader, StreamReader};
use wasip3::wit_stream;

use crate::Outcome;

/// Writes all of `text` into `sink`.
pub async fn write(
    sink: fn(StreamReader<u8>) -> FutureReader<Result<(), ErrorCode>>,
    text: String,
) -> Outcome {
    let (mut stream, reader) = wit_stream::new();
    let written = sink(reader);
    // The host refused the rest. The sink has the reason.
    stream.write_all(text.into_bytes()).await;
    // Without an end, the sink would wait for more.
    drop(stream);
    written.await.map_err(|error| format!("output: {error:?}"))
}
