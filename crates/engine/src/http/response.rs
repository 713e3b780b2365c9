//! The body of a response: whether it is complete or has broken off, and which side broke it off.
//!
//! A body of 0.2 that its guest has not finished yields an error, because [`crate::state::State`] aborts it when the
//! instance is dropped. A body of 0.3 is a stream. Its reader cannot see whether the guest closed it or the instance is
//! gone. So an instance of 0.3 that has ended is kept while one of its responses is being sent
//! ([`Exchange::instance_ended`]). A body that is still pending then will never be finished.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::CONTENT_LENGTH;
use hyper::{Method, Response, StatusCode, Version};
use wasmtime::Store;
use wasmtime_wasi_http::{Error, WasiBody};

use super::body::{self, Ended};
use super::client::Open;
use super::instances::Reservation;
use super::observe::Observed;
use super::share::Share;
use super::streams;
use crate::state::State;

/// Size of the pieces in which HTTP/2 gets a body, in bytes: the default size of a frame. `streams` sees the progress of a
/// client from piece to piece.
const PIECE: usize = 16 << 10;

/// State that an instance shares with the response to one of its requests. The response holds it until it is over.
pub struct Exchange {
    progress: Mutex<Progress>,
    _share: Share,
}

#[derive(Default)]
struct Progress {
    is_sending: bool,
    /// The task that sends the body, if it waits for the guest.
    waiting: Option<Waker>,
    ended: Option<Arc<EndedInstance>>,
}

/// An instance that has ended, with its reservation.
pub struct EndedInstance {
    _store: Mutex<Store<State>>,
    _reservation: Option<Reservation>,
}

impl EndedInstance {
    /// Takes a store that is not used again.
    pub fn new(store: Store<State>, reservation: Option<Reservation>) -> EndedInstance {
        EndedInstance { _store: Mutex::new(store), _reservation: reservation }
    }
}

impl Exchange {
    /// Makes the state for a request that is about to be served.
    pub fn new(share: Share) -> Arc<Exchange> {
        Arc::new(Exchange { progress: Mutex::default(), _share: share })
    }

    /// Whether the response is being sent.
    pub fn is_sending(self: &Arc<Exchange>) -> bool {
        self.is_open() && self.progress().is_sending
    }

    /// Returns whether the response still holds it. The instance holds one reference.
    pub fn is_open(self: &Arc<Exchange>) -> bool {
        Arc::strong_count(self) > 1
    }

    /// Notes that the instance has ended, and keeps it until the response is over.
    pub fn instance_ended(&self, instance: Arc<EndedInstance>) {
        let mut progress = self.progress();
        progress.ended = Some(instance);
        if let Some(waker) = progress.waiting.take() {
            waker.wake();
        }
    }

    /// Whether the instance has ended; otherwise registers the task to be woken when it does.
    fn has_ended(&self, waker: &Waker) -> bool {
        let mut progress = self.progress();
        match &mut progress.waiting {
            Some(waiting) => waiting.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        progress.ended.is_some()
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side that broke a response off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CutBy {
    /// It did not finish the body: it trapped, was ended, or dropped or forgot it.
    Guest,
    /// It went away, or did not read the response.
    Client,
}

impl CutBy {
    /// The name in access log and metrics.
    pub fn name(self) -> &'static str {
        match self {
            CutBy::Guest => "guest",
            CutBy::Client => "client",
        }
    }
}

/// The part of the request that determines how its response is sent.
pub struct Asking {
    /// The request's method: a response to HEAD has no body.
    pub method: Method,
    /// The request's version.
    pub version: Version,
    /// The connection, on which this response is open.
    pub client: Open,
}

/// Origin of a response that a guest made.
pub struct Origin {
    /// Shared with the instance.
    pub exchange: Arc<Exchange>,
    /// Why the body of the request ended early, if it did.
    pub request_ended: Arc<OnceLock<Ended>>,
}

/// The body of a response.
pub struct ResponseBody {
    body: WasiBody,
    flow: Flow,
    /// Data that was read from `body` and not yet passed on.
    piece: Bytes,
    /// Bytes left of the `content-length` in its head.
    missing: Option<u64>,
    asking: Asking,
    /// None for the server's own responses.
    origin: Option<Origin>,
    observed: Option<Observed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    Flowing,
    /// It breaks off at the next poll, after hyper has written what came before.
    Breaking,
    /// It is complete, or broken off and noted as such.
    Over,
}

impl ResponseBody {
    /// Wraps the body of a response.
    pub fn wrap(
        response: Response<WasiBody>,
        asking: Asking,
        origin: Option<Origin>,
        observed: Option<Observed>,
    ) -> Response<WasiBody> {
        if let Some(Origin { exchange, .. }) = &origin {
            exchange.progress().is_sending = true;
        }
        let length = response.headers().get(CONTENT_LENGTH);
        let missing = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let has_none = asking.method == Method::HEAD
            || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let flow = if has_none { Flow::Over } else { Flow::Flowing };
        let (head, body) = response.into_parts();
        let piece = Bytes::new();
        let body = ResponseBody { body, flow, piece, missing, asking, origin, observed };
        Response::from_parts(head, body.boxed_unsync())
    }

    /// The next frame of the body, without a check of whether its end is complete.
    fn take(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if !self.piece.is_empty() {
            return Poll::Ready(Some(Ok(self.next_piece())));
        }
        let body = Pin::new(&mut self.body);
        let (mut frame, is_passed_on) = body::ask(|| body.poll_frame(context));
        if let (Poll::Pending, Some(origin), false) = (&frame, &self.origin, is_passed_on)
            && origin.exchange.has_ended(context.waker())
        {
            // The guest may have finished it between the two polls.
            frame = Pin::new(&mut self.body).poll_frame(context);
            if frame.is_pending() {
                return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
            }
        }
        let frame = ready!(frame);
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        match frame.into_data() {
            Ok(data) if self.is_http2() && data.len() > PIECE => {
                self.piece = data;
                Poll::Ready(Some(Ok(self.next_piece())))
            }
            Ok(data) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Err(frame) => Poll::Ready(Some(Ok(frame))),
        }
    }

    fn is_http2(&self) -> bool {
        self.asking.version == Version::HTTP_2
    }

    fn next_piece(&mut self) -> Frame<Bytes> {
        Frame::data(self.piece.split_to(self.piece.len().min(PIECE)))
    }

    /// Whether all bytes were passed on that the head announces.
    fn has_its_length(&self) -> bool {
        self.missing.is_none_or(|missing| missing == 0)
    }

    fn given(&mut self, frame: &Frame<Bytes>) {
        let Some(data) = frame.data_ref() else {
            // Trailers are the last frame.
            self.flow = Flow::Over;
            return;
        };
        if let Some(observed) = &mut self.observed {
            observed.sent(data.len());
        }
        if let Some(missing) = &mut self.missing {
            *missing = missing.saturating_sub(data.len() as u64);
        }
    }

    /// The side to blame for a body that the guest did not finish.
    fn cut_by(&self) -> CutBy {
        let request_ended = self.origin.as_ref().and_then(|origin| origin.request_ended.get());
        request_ended.map_or(CutBy::Guest, |_| CutBy::Client)
    }

    fn break_off(&mut self, by: CutBy) {
        if self.asking.version == Version::HTTP_10 {
            // The end of the connection marks the end of the body there, so it must be a reset.
            self.asking.client.reset();
        }
        if let Some(observed) = &mut self.observed {
            observed.cut(by);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let me = self.get_mut();
        match me.flow {
            Flow::Flowing => {}
            Flow::Breaking => {
                me.flow = Flow::Over;
                return Poll::Ready(Some(Err(Error::HttpResponseIncomplete)));
            }
            Flow::Over => return Poll::Ready(None),
        }
        let frame = me.take(context);
        if me.is_http2() {
            streams::asked(frame.is_ready());
        }
        match ready!(frame) {
            Some(Ok(frame)) if frame.is_data() || me.has_its_length() => {
                me.given(&frame);
                Poll::Ready(Some(Ok(frame)))
            }
            None if me.has_its_length() => {
                me.flow = Flow::Over;
                Poll::Ready(None)
            }
            // hyper drops buffered data on an error, so yield once to let it write.
            _ => {
                me.flow = Flow::Breaking;
                me.break_off(me.cut_by());
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.flow != Flow::Breaking
            && self.piece.is_empty()
            && self.has_its_length()
            && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let is_complete = self.flow != Flow::Flowing
            || (self.missing == Some(0) && self.piece.is_empty())
            || self.is_end_stream();
        if !is_complete {
            self.break_off(CutBy::Client);
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use tokio::runtime::Builder;

    use super::*;
    use crate::http::client::Client;

    fn asking(version: Version) -> Asking {
        let client = Arc::new(Client::new(None, None, None));
        Asking { method: Method::GET, version, client: client.open() }
    }

    fn frames(response: Response<WasiBody>) -> Vec<Result<usize, ()>> {
        let tokio = Builder::new_current_thread().build().expect("a runtime");
        tokio.block_on(async {
            let (mut body, mut frames) = (response.into_body(), Vec::new());
            while let Some(frame) = body.frame().await {
                let length = |frame: Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len);
                frames.push(frame.map(length).map_err(drop));
            }
            frames
        })
    }

    fn response(length: Option<&str>, body: WasiBody) -> Response<WasiBody> {
        let mut response = Response::new(body);
        if let Some(length) = length {
            response.headers_mut().insert(CONTENT_LENGTH, length.parse().expect("a value"));
        }
        response
    }

    #[test]
    fn a_body_that_is_shorter_than_its_head_says_breaks_off() {
        let body = || Full::from("rows").map_err(|never| match never {}).boxed_unsync();
        let sent = |length| {
            let response = response(length, body());
            frames(ResponseBody::wrap(response, asking(Version::HTTP_11), None, None))
        };
        assert_eq!(sent(None), [Ok(4)]);
        assert_eq!(sent(Some("4")), [Ok(4)]);
        assert_eq!(sent(Some("9")), [Ok(4), Err(())]);
    }

    #[test]
    fn a_body_goes_to_http_2_in_pieces_so_that_slow_is_not_taken_for_still() {
        let body =
            || Full::from(vec![b'x'; 40 << 10]).map_err(|never| match never {}).boxed_unsync();
        let sent = |version| {
            frames(ResponseBody::wrap(response(None, body()), asking(version), None, None))
        };
        assert_eq!(sent(Version::HTTP_2), [Ok(PIECE), Ok(PIECE), Ok(8 << 10)]);
        assert_eq!(sent(Version::HTTP_11), [Ok(40 << 10)]);
    }

    /// A row, and then an error.
    struct Failing(bool);

    impl Body for Failing {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            let row = Ok(Frame::data(Bytes::from_static(b"row")));
            let is_first = !std::mem::replace(&mut self.0, true);
            Poll::Ready(Some(if is_first { row } else { Err(Error::HttpProtocolError) }))
        }
    }

    #[test]
    fn what_came_before_an_error_is_written_before_it_breaks_off() {
        let failing = response(None, Failing(false).boxed_unsync());
        let wrapped = ResponseBody::wrap(failing, asking(Version::HTTP_11), None, None);
        let mut body = wrapped.into_body();
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = || Pin::new(&mut body).poll_frame(&mut context);
        assert!(matches!(poll(), Poll::Ready(Some(Ok(_)))));
        assert!(poll().is_pending());
        assert!(matches!(poll(), Poll::Ready(Some(Err(_)))));
    }
}
