//! Events for containerd. They are sent in their order, each until containerd has accepted it.
//!
//! A single task owns the connection. While containerd cannot be reached, events wait. They stay in their order, because each is
//! sent after the one before it was answered.

use std::time::{Duration, SystemTime};

use containerd_shim::event::Event;
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim::protos::protobuf::{Message, MessageField};
use containerd_shim::protos::shim::{event::Envelope, events::ForwardRequest};
use containerd_shim::protos::shim_async::{Client, EventsClient};
use containerd_shim::protos::ttrpc::{self, context};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::packed::pack;

/// Protobuf package of all events.
pub const PACKAGE: &str = "containerd.events";

/// How long containerd may take for one event.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Pause before an event is tried again: a restart of containerd takes seconds.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How long the last events may take when the shim ends. containerd waits for the shim in StopPodSandbox.
const DRAIN_TIME: Duration = Duration::from_secs(3);

/// How long an exit waits for the events before it.
const TAKEN_TIME: Duration = Duration::from_secs(1);

/// Queue of events.
#[derive(Clone)]
pub struct Events {
    namespace: String,
    queue: UnboundedSender<Item>,
}

/// Item of the queue.
enum Item {
    Event(Envelope),
    /// A call waits until the events before this were accepted.
    Mark(oneshot::Sender<()>),
    /// The end of the queue. Lingering connections keep clones of the queue, so that it does not end by itself.
    End,
}

/// Task that sends; it is awaited at the end.
pub struct Sender(JoinHandle<()>);

/// Starts the task, which sends to the ttrpc address of containerd.
pub fn connect(address: String, namespace: String) -> (Events, Sender) {
    let (queue, waiting) = mpsc::unbounded_channel();
    (Events { namespace, queue }, Sender(tokio::spawn(send_all(address, waiting))))
}

impl Events {
    /// Queues an event. Never blocks.
    pub fn publish<E: Event + Message>(&self, event: E) {
        let topic = event.topic();
        let event = match pack(PACKAGE, &event) {
            Ok(any) => any,
            Err(error) => return log::error!("encode event {topic}: {error}"),
        };
        let mut envelope = Envelope::new();
        envelope.set_topic(topic);
        envelope.set_namespace(self.namespace.clone());
        envelope.set_timestamp(timestamp(SystemTime::now()));
        envelope.set_event(event);
        if self.queue.send(Item::Event(envelope)).is_err() {
            log::error!("event lost: the sending task has ended");
        }
    }

    /// Waits, for a limited time, until containerd has accepted all events so far.
    pub async fn taken(&self) {
        let (mark, passed) = oneshot::channel();
        if self.queue.send(Item::Mark(mark)).is_ok() {
            let _ = tokio::time::timeout(TAKEN_TIME, passed).await;
        }
    }
}

impl Sender {
    /// Waits, for a limited time, until containerd has accepted all of `events`.
    pub async fn drain(self, events: &Events) {
        let ended = events.queue.send(Item::End).is_err();
        if !ended && tokio::time::timeout(DRAIN_TIME, self.0).await.is_err() {
            log::warn!("containerd did not take the last events within {DRAIN_TIME:?}");
        }
    }
}

/// Converts a time to seconds and nanoseconds since 1970.
pub fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: since.as_secs() as i64,
        nanos: since.subsec_nanos() as i32,
        ..Default::default()
    }
}

async fn send_all(address: String, mut waiting: UnboundedReceiver<Item>) {
    let mut client = None;
    while let Some(item) = waiting.recv().await {
        let envelope = match item {
            Item::Event(envelope) => envelope,
            Item::Mark(mark) => {
                let _ = mark.send(());
                continue;
            }
            Item::End => return,
        };
        let mut logged = false;
        while let Err(error) = send(&address, &mut client, &envelope).await {
            if let ttrpc::Error::RpcStatus(refusal) = &error
                && refusal.code() != ttrpc::Code::DEADLINE_EXCEEDED
            {
                // It would be refused again, and must not hold up the events behind it.
                log::error!("event {} is refused by containerd: {error}", envelope.topic());
                break;
            }
            if !std::mem::replace(&mut logged, true) {
                log::warn!("event {} waits for containerd: {error}", envelope.topic());
            }
            client = None;
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }
}

async fn send(
    address: &str,
    client: &mut Option<EventsClient>,
    envelope: &Envelope,
) -> ttrpc::Result<()> {
    let connected = match client.take() {
        Some(client) => client,
        None => EventsClient::new(Client::connect(&format!("unix://{address}")).await?),
    };
    let request =
        ForwardRequest { envelope: MessageField::some(envelope.clone()), ..Default::default() };
    let time = context::with_duration(ANSWER_TIME);
    connected.forward(time, &request).await?;
    *client = Some(connected);
    Ok(())
}
