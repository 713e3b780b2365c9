//! The body of a response, as a stream that is closed in the right order.

use wasip2::http::types::{IncomingBody, OutgoingBody, http_error_code};
use wasip2::io::streams::{OutputStream, StreamError};

/// Largest write of `blocking-write-and-flush`, in bytes.
const CHUNK: usize = 4096;

/// Largest part that is copied at a time, in bytes.
const PIECE: u64 = 64 << 10;

/// Reads a request's body to its end, and returns its length in bytes.
pub fn length(incoming: &IncomingBody) -> Result<u64, StreamError> {
    let input = incoming.stream().expect("the stream is taken only here");
    let mut length = 0;
    loop {
        match input.blocking_skip(PIECE) {
            Ok(count) => length += count,
            Err(StreamError::Closed) => return Ok(length),
            Err(error) => return Err(error),
        }
    }
}

/// Returns the host's reason why a body could not be read.
pub fn reason(error: &StreamError) -> String {
    match error {
        StreamError::Closed => "closed".into(),
        StreamError::LastOperationFailed(error) => {
            http_error_code(error).map_or_else(|| "no code".into(), |code| format!("{code:?}"))
        }
    }
}

/// A body that is being written.
pub struct Body {
    // The stream is a child of the body and must be dropped before it. Fields are dropped in this order.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Body {
    /// Opens the body for writing.
    pub fn new(body: OutgoingBody) -> Self {
        let stream = body.write().expect("the stream is taken only here");
        Self { stream, body }
    }

    /// Writes all `bytes`.
    pub fn write(&self, bytes: &[u8]) -> Result<(), StreamError> {
        bytes.chunks(CHUNK).try_for_each(|chunk| self.stream.blocking_write_and_flush(chunk))
    }

    /// Writes what arrives in `incoming` until its end. The content does not go through the guest's memory.
    pub fn copy_from(&self, incoming: &IncomingBody) -> Result<(), StreamError> {
        let input = incoming.stream().expect("the stream is taken only here");
        loop {
            match self.stream.blocking_splice(&input, PIECE) {
                Ok(_) => {}
                Err(StreamError::Closed) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Finishes the body, so that the client sees it as complete. Without this, the response breaks off.
    pub fn finish(self) -> Result<(), StreamError> {
        let Self { stream, body } = self;
        drop(stream);
        OutgoingBody::finish(body, None).map_err(|_| StreamError::Closed)
    }
}
