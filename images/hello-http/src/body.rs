//! The body of a response, as a stream that is closed in the right order.

use wasip2::http::types::{IncomingBody, OutgoingBody, http_error_code};
use wasip2::io::streams::{OutputStream, StreamError};

/// What `blocking-write-and-flush` takes at most.
const CHUNK: usize = 4096;

/// What is copied at a time, at most.
const PIECE: u64 = 64 << 10;

/// Reads a request's body to its end, and says how many bytes it had.
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

/// Why a body could not be read on, as the host says it.
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
    // The stream is a child of the body and has to be dropped before it: fields drop in this order.
    stream: OutputStream,
    body: OutgoingBody,
}

impl Body {
    /// Opens the body for writing.
    pub fn new(body: OutgoingBody) -> Self {
        let stream = body.write().expect("the stream is taken only here");
        Self { stream, body }
    }

    /// Writes all of `bytes`.
    pub fn write(&self, bytes: &[u8]) -> Result<(), StreamError> {
        bytes.chunks(CHUNK).try_for_each(|chunk| self.stream.blocking_write_and_flush(chunk))
    }

    /// Writes what arrives in `incoming` until its end. None of it comes into the guest's memory.
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

    /// Tells the client that the body is complete; without it the response counts as broken off.
    pub fn finish(self) -> Result<(), StreamError> {
        let Self { stream, body } = self;
        drop(stream);
        OutgoingBody::finish(body, None).map_err(|_| StreamError::Closed)
    }
}
