//! Handles a request: checks it, has the guest answer it, or answers in the guest's place.

use std::convert::Infallible;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue, RETRY_AFTER};
use hyper::http::uri::Scheme;
use hyper::{Request, Response, StatusCode, Version};
use plan::HttpSettings;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout, timeout_at};
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::{ExpirationError, InstantiationError, ProxyHandler};

use super::body::{self, Ended};
use super::client::{Client, Unread};
use super::event_loop::{EventLoop, elsewhere};
use super::head::{self, Unfit};
use super::instances::{Asked, Busy, Guest};
use super::observe::{Observed, Observer};
use super::response::{Asking, Exchange, Origin, ResponseBody};
use super::share::Room;
use super::spans::Spans;
use super::tracing::Trace;
use crate::report::{self, log_of_request};

/// Seconds after which a client that was refused for lack of room may try again.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// Time limit for a failed instance to log the reason and write a core dump.
const END: Duration = Duration::from_millis(100);

/// Reason why the server answers instead of the guest.
enum Refusal {
    /// No guest may see this head.
    Unfit(Unfit),
    /// The client sent nothing of its body for too long.
    Silent,
    /// The body is longer than the limit.
    TooLarge,
    /// The server, or the share of this connection, is fully used.
    Busy,
    /// The guest did not begin its response in time.
    Late,
    /// The guest failed, which was logged.
    Failed,
}

/// Answers requests.
pub struct Service {
    /// The guest on this thread, with its event loop, and then the guest on each other thread, where instances may wait for
    /// requests.
    pub handlers: Vec<(Arc<EventLoop>, ProxyHandler<Guest>)>,
    /// Limits and other settings of the server.
    pub settings: HttpSettings,
    /// Capacity of the server, and the share of each connection.
    pub room: Room,
    /// Access log and metrics.
    pub observer: Option<Arc<Observer>>,
    /// Spans.
    pub spans: Option<Arc<Spans>>,
}

impl Service {
    /// Lets an instance answer. The limit of instances applies to all threads together. If this thread may not have a further
    /// instance, another thread may have one that waits for a request.
    async fn handle(
        &self,
        mut asked: Asked,
        mut request: Request<WasiBody>,
    ) -> wasmtime::Result<Response<WasiBody>> {
        for (number, (event_loop, handler)) in self.handlers.iter().enumerate() {
            // An event loop without a thread has no waiting instance.
            let other = if number == 0 { None } else { event_loop.enter_live() };
            if number > 0 && other.is_none() {
                continue;
            }
            let handler = handler.clone();
            let handled = async move { handler.handle(asked, request).await };
            let handled = match &other {
                None => handled.await,
                Some(used) => elsewhere(used, handled).await.unwrap_or(Err(Busy.into())),
            };
            let error = match handled {
                Ok(response) => return Ok(response),
                Err(error) => error.downcast::<InstantiationError<Asked>>()?,
            };
            if !Busy::is(&error.error) {
                return Err(error.into());
            }
            let waiting = error.request.into_inner();
            (asked, request) =
                (error.request_data, waiting.unwrap_or_else(PoisonError::into_inner));
        }
        Err(Busy.into())
    }
}

/// Serves one request.
pub async fn respond(
    service: Arc<Service>,
    client: Arc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<WasiBody>, Infallible> {
    let settings = &service.settings;
    let (method, version) = (request.method().clone(), request.version());
    let asking = Asking { method, version, client: client.open() };
    let unread = (!request.body().is_end_stream()).then(|| Unread::new(&client));
    let settled = head::settle(&mut request, client.local, settings.head);
    let span = service.spans.as_ref().map(|spans| spans.begin(&mut request, client.address));
    let trace = Trace::of(request.headers());
    let observer = service.observer.as_ref();
    let mut observed =
        observer.map(|it| it.began(&mut request, client.address, trace.as_ref(), span));
    let answer = match settled {
        Err(unfit) => Err(Refusal::Unfit(unfit)),
        Ok(()) if request.body().size_hint().lower() > settings.body => Err(Refusal::TooLarge),
        Ok(()) => ask(&service, &client, request, unread, trace, observed.as_ref()).await,
    };
    let (mut response, origin) = match answer {
        Ok((response, origin)) => (response, Some(origin)),
        Err(refusal) => (refuse(refusal, version), None),
    };
    if let Some(observed) = &mut observed {
        observed.answered(&mut response);
    }
    Ok(ResponseBody::wrap(response, asking, origin, observed))
}

async fn ask(
    service: &Service,
    client: &Client,
    request: Request<Incoming>,
    unread: Option<Unread>,
    trace: Option<Trace>,
    observed: Option<&Observed>,
) -> Result<(Response<WasiBody>, Origin), Refusal> {
    let settings = &service.settings;
    let share = service.room.share(client.requests.as_ref()).ok_or(Refusal::Busy)?;
    let (parts, body) = request.into_parts();
    let (body, request_ended) = body::bounded(body, unread, settings);
    let request = Request::from_parts(parts, body);
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let (ends, ended) = oneshot::channel();
    let id = observed.filter(|_| settings.has_request_ids).map(|it| it.id().to_owned());
    let exchange = Exchange::new(share);
    let is_https = uri.scheme() == Some(&Scheme::HTTPS);
    let asked = Asked { ended: ends, id, trace, is_https, exchange: exchange.clone() };
    let deadline = Instant::now() + settings.request_time;
    let answer = timeout_at(deadline, service.handle(asked, request)).await;
    if let Some(ended) = request_ended.get() {
        // The guest saw the body end where the client did not end it, so its response is not the answer.
        return Err(match ended {
            Ended::TooLarge => Refusal::TooLarge,
            Ended::Silent => Refusal::Silent,
        });
    }
    let error = match answer {
        Ok(Ok(response)) => return Ok((response, Origin { exchange, request_ended })),
        Ok(Err(error)) if error.is::<Busy>() => return Err(Refusal::Busy),
        // After the deadline, the instance may have been ended because of it. Its error arrives before that of the timer.
        Ok(Err(error)) if !error.is::<ExpirationError>() && Instant::now() < deadline => error,
        _ => {
            let time = settings.request_time;
            let path = uri.path();
            log_of_request(&format!("warning: {method} {path}: no response within {time:?}"));
            return Err(Refusal::Late);
        }
    };
    match error.downcast_ref::<InstantiationError<Asked>>() {
        Some(failure) => log_of_request(&report::text(&failure.error)),
        // After a trap, this error says only that there is no response, and the trap is logged already. If the instance continues,
        // there is nothing else to log.
        None if matches!(timeout(END, ended).await, Ok(Ok(true))) => {}
        None => log_of_request(&report::text(&error)),
    }
    Err(Refusal::Failed)
}

/// Returns the server's answer if there is none of the guest.
pub fn failed() -> Response<WasiBody> {
    refuse(Refusal::Failed, Version::HTTP_2)
}

/// Returns the server's answer, which contains nothing of the guest.
fn refuse(refusal: Refusal, version: Version) -> Response<WasiBody> {
    let (status, text) = match refusal {
        Refusal::Unfit(Unfit::Host) => {
            (StatusCode::BAD_REQUEST, "the host is missing, not valid, or said twice\n")
        }
        Refusal::Unfit(Unfit::TooLarge) => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the head is too large\n")
        }
        Refusal::Silent => (StatusCode::REQUEST_TIMEOUT, "the body did not go on\n"),
        Refusal::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large\n"),
        Refusal::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time\n"),
        Refusal::Late => (StatusCode::GATEWAY_TIMEOUT, "no response in time\n"),
        Refusal::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "internal server error\n"),
    };
    let body = Full::from(Bytes::from_static(text.as_bytes()));
    let mut response = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
    }
    if status == StatusCode::BAD_REQUEST && version != Version::HTTP_2 {
        // A proxy in front may disagree with this server about where such a request ends.
        response.headers_mut().insert(CONNECTION, CLOSE);
    }
    response
}
