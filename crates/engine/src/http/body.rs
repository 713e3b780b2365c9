//! Incoming bodies, with limits of their length and of the time between their parts.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use plan::HttpSettings;
use tokio::time::{Sleep, sleep};
use wasmtime_wasi_http::{Error, WasiBody};

use super::client::Unread;
use super::errors;

/// Reason why a request's body ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is longer than the limit.
    TooLarge,
    /// Its client sent nothing for too long.
    Silent,
}

/// Returns the body of a request with its limits, and the reason why it ended early, which is set when that happens.
pub fn bounded(
    body: Incoming,
    unread: Option<Unread>,
    settings: &HttpSettings,
) -> (WasiBody, Arc<OnceLock<Ended>>) {
    let ended = Arc::<OnceLock<Ended>>::default();
    let limit = usize::try_from(settings.body).unwrap_or(usize::MAX);
    let body = TimeoutBody::new(body, settings.idle_time, errors::of_request_body);
    let body = RequestBody { body, unread };
    let noted = ended.clone();
    let body = Limited::new(body, limit).map_err(move |error| match error.downcast::<Error>() {
        Ok(error) => {
            if matches!(*error, Error::ConnectionReadTimeout) {
                let _ = noted.set(Ended::Silent);
            }
            *error
        }
        Err(_) => {
            let _ = noted.set(Ended::TooLarge);
            Error::HttpRequestBodySize(None)
        }
    });
    (body.boxed_unsync(), ended)
}

thread_local! {
    /// Whether an incoming body was polled.
    static ASKED: Cell<bool> = const { Cell::new(false) };
}

/// Polls the body of a guest's response, and returns whether that polled an incoming body. A guest of 0.3 may pass one on as its
/// response; such a body does not end with the guest's instance.
pub fn ask<T>(next: impl FnOnce() -> T) -> (T, bool) {
    ASKED.set(false);
    (next(), ASKED.get())
}

/// Body of a request. Its connection is not idle before the body has ended.
struct RequestBody {
    body: TimeoutBody,
    /// None if it has ended.
    unread: Option<Unread>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if frame.is_none() {
            self.ended();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl RequestBody {
    fn ended(&mut self) {
        if let Some(unread) = self.unread.take() {
            unread.read();
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if self.is_end_stream() {
            self.ended();
        }
    }
}

/// Body with a time limit for each wait for its next part. Time in which the guest does not read does not count, because a part
/// that has arrived is returned before the limit is checked.
pub struct TimeoutBody {
    body: Incoming,
    patience: Duration,
    error: fn(&hyper::Error) -> Error,
    /// The limit of the present wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl TimeoutBody {
    /// Limits the waits for a body. `error` converts the body's errors.
    pub fn new(
        body: Incoming,
        patience: Duration,
        error: fn(&hyper::Error) -> Error,
    ) -> TimeoutBody {
        TimeoutBody { body, patience, error, timer: None }
    }
}

impl Body for TimeoutBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        ASKED.set(true);
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.timer = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(|error| (self.error)(&error))));
        }
        let patience = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(timer.as_mut().poll(context));
        Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
