//! Accepts connections, at most as many as the settings and the process's file descriptors allow. Further clients get a 503 at
//! once.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::signal::Signal;
use plan::HttpSettings;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};

use super::idle::{Idle, not_served};
use super::threads::Threads;
use super::{instances, listen, wire};
use crate::report::log;

/// Pause after accept(2) failed, in which other connections may end.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Response to a client beyond the limit of connections.
const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\
                          connection: close\r\n\r\n";

/// Clients at a time that are refused with a lingering close; further ones may see a reset in place of the response.
const REFUSALS: u32 = 32;

/// Descriptors of the process itself: standard streams, event loops, listeners, readers of metrics, exporters.
const OWN: u64 = 64;

/// Descriptors of an instance: its preopened root, and a file or socket of the guest.
const OF_INSTANCE: u64 = 2;

/// Accepts connections until a signal stops it, and then lets them finish.
pub async fn accept(
    threads: &Arc<Threads>,
    settings: &HttpSettings,
    mut stop: oneshot::Receiver<Signal>,
    idle: fn(),
) -> wasmtime::Result<()> {
    let listener = listen::listen(settings)?;
    trace::last("listens");
    let connections = connections(settings);
    idle();
    let (end, ending) = watch::channel(false);
    let door = Door {
        threads: threads.clone(),
        idle_time: settings.idle_time,
        permits: Arc::new(Semaphore::new(connections as usize)),
        refusals: Arc::new(Semaphore::new(REFUSALS as usize)),
        ending,
    };
    let mut spare = Spare::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    spare.keep();
                    door.serve(stream);
                }
                Err(error) => spare.refuse(&listener, &error).await,
            },
            _ = &mut stop => break,
            // The memory of the ended threads can be released now.
            () = threads.none_left() => idle(),
        }
    }
    end.send_replace(true);
    // Connections that the kernel has accepted may have sent a request. The kernel must be asked, because the event loop may
    // not have heard of them yet.
    let listener = listener.into_std()?;
    while let Ok((stream, _)) = listener.accept() {
        stream.set_nonblocking(true)?;
        door.serve(TcpStream::from_std(stream)?);
    }
    drop(listener);
    // Wait until each connection and each refusal has returned its permit. The semaphores are never closed.
    let _ = door.permits.acquire_many(connections).await;
    let _ = door.refusals.acquire_many(REFUSALS).await;
    Ok(())
}

/// Admission of connections.
struct Door {
    threads: Arc<Threads>,
    idle_time: Duration,
    permits: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    ending: watch::Receiver<bool>,
}

impl Door {
    fn serve(&self, stream: TcpStream) {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            let served = Idle::new(stream, self.idle_time)
                .and_then(|connection| self.threads.serve(connection, permit, self.ending.clone()));
            if let Err(error) = served {
                not_served(&error);
            }
            return;
        }
        match self.refusals.clone().try_acquire_owned() {
            Ok(refusal) => drop(tokio::spawn(async move {
                wire::refuse(stream, NO_ROOM).await;
                drop(refusal);
            })),
            Err(_) => drop(stream.try_write(NO_ROOM)),
        }
    }
}

/// Spare descriptor, closed to accept and refuse a client when the process has no other descriptor left.
struct Spare {
    descriptor: Option<OwnedFd>,
    /// Whether the failure was logged: once, until accept(2) succeeds again.
    is_logged: bool,
}

impl Spare {
    fn new() -> Spare {
        let mut spare = Spare { descriptor: None, is_logged: false };
        spare.keep();
        spare
    }

    fn keep(&mut self) {
        if self.descriptor.is_none() {
            self.descriptor = io::stderr().as_fd().try_clone_to_owned().ok();
            self.is_logged &= self.descriptor.is_none();
        }
    }

    /// Handles a failure of accept(2): refuses the client if the reason is a lack of descriptors, otherwise pauses.
    async fn refuse(&mut self, listener: &TcpListener, error: &io::Error) {
        if !std::mem::replace(&mut self.is_logged, true) {
            log(&format!("warning: accept a connection: {error}"));
        }
        let is_for_want = matches!(
            error.raw_os_error().map(Errno::from_raw),
            Some(Errno::EMFILE | Errno::ENFILE)
        );
        if is_for_want && self.descriptor.take().is_some() {
            // Another thread may have taken the descriptor, or the client may be gone.
            let accepted = poll_fn(|context| Poll::Ready(listener.poll_accept(context))).await;
            if let Poll::Ready(Ok((stream, _))) = accepted {
                let _ = stream.try_write(NO_ROOM);
                drop(stream);
                self.descriptor = io::stderr().as_fd().try_clone_to_owned().ok();
                return;
            }
        }
        tokio::time::sleep(ACCEPT_PAUSE).await;
        self.keep();
    }
}

/// Limit of connections: that of the settings, lowered if RLIMIT_NOFILE would not leave enough for the guest.
fn connections(settings: &HttpSettings) -> u32 {
    let descriptors = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    let connections = within(descriptors, instances::at_most(settings), settings.connections);
    if connections < settings.connections {
        log(&format!(
            "note: at most {connections} connections at a time and not {}, as http-max-connections says or by default: the \
             limit of open files (RLIMIT_NOFILE) is {descriptors}, and the rest of them is for the guest; a higher limit \
             allows more",
            settings.connections,
        ));
    }
    connections
}

/// Connections that the descriptors allow beside the runtime and the guest, at least a quarter of the descriptors.
fn within(descriptors: u64, instances: u32, connections: u32) -> u32 {
    let others = OWN + u64::from(REFUSALS) + u64::from(instances) * OF_INSTANCE;
    let left = descriptors.saturating_sub(others).max(descriptors / 4).max(1);
    u32::try_from(left).unwrap_or(u32::MAX).min(connections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_connections_as_there_are_descriptors_for_beside_the_guests() {
        assert_eq!(within(u64::MAX, 128, 1024), 1024);
        assert_eq!(within(20_000, 128, 1024), 1024);
        assert_eq!(within(1024, 128, 1024), 1024 - 64 - 32 - 256);
        assert_eq!(within(1024, 128, 100), 100);
        assert_eq!(within(100, 128, 1024), 25);
        assert_eq!(within(2, 128, 1024), 1);
    }
}
