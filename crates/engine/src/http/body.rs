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

/// Why a request's body ended that is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It is longer than it may be.
    TooLarge,
    /// Its client did not go on with it.
    Silent,
}

/// The body of a request, and why it ended before its end, once it has.
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

/// Body of a request, which its connection must know to have ended before it is idle.
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

/// Body with a time limit for each wait for its next part. Parts that have arrived come first: the time in which the guest does
/// something else does not count.
pub struct TimeoutBody {
    body: Incoming,
    patience: Duration,
    error: fn(&hyper::Error) -> Error,
    /// Set during a wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl TimeoutBody {
    /// With what its errors mean.
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
