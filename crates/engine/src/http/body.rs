//! The body of a request, as far as it may be long, and as long as its client goes on with it.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use tokio::time::{Sleep, sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::settings::HttpSettings;

/// Why a body ended that is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is longer than it may be.
    TooLarge,
    /// Its client did not go on with it.
    Silent,
}

/// The body, and why it ended before its end, once it has.
pub fn bounded(body: Incoming, settings: &HttpSettings) -> (WasiBody, Arc<OnceLock<Ended>>) {
    let ended = Arc::default();
    if body.is_end_stream() {
        return (body.map_err(|_| Error::ConnectionTerminated).boxed_unsync(), ended);
    }
    let limit = usize::try_from(settings.body).unwrap_or(usize::MAX);
    let patient = Patient { body, time: settings.idle_time, timer: None };
    let noted = ended.clone();
    let body = Limited::new(patient, limit).map_err(move |error| {
        let (reason, error) = if error.is::<LengthLimitError>() {
            (Ended::TooLarge, Error::HttpRequestBodySize(None))
        } else if error.is::<Silent>() {
            (Ended::Silent, Error::ConnectionReadTimeout)
        } else {
            return Error::ConnectionTerminated;
        };
        let _ = noted.set(reason);
        error
    });
    (body.boxed_unsync(), ended)
}

#[derive(Debug, thiserror::Error)]
#[error("the client does not go on with the body")]
struct Silent;

/// A body that fails where somebody waits for its next part for so long. What has arrived comes first: a guest may do
/// something else meanwhile.
struct Patient {
    body: Incoming,
    time: Duration,
    /// While somebody waits.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Body for Patient {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let time = self.time;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(time)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(Silent.into())))
    }
}
