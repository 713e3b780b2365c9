//! Fair shares: bounds how many of the server's instances one connection may occupy.
//!
//! An HTTP/1.1 connection has one request at a time. An HTTP/2 connection may have many, so two bounds apply to it.
//! First, `SETTINGS_MAX_CONCURRENT_STREAMS` is half of the server's capacity, so that a well-behaved client queues by
//! itself. Second, while other connections are served, a connection gets no further instance if fewer would then be
//! free than a quarter of those that it occupies. So a few greedy connections cannot lock out one that has no request
//! yet.

use std::sync::Arc;

/// Upper bound of concurrent streams of one HTTP/2 connection, however many instances there are.
const MAX_STREAMS: usize = 100;

/// A connection may hold at most this many times what stays free for others.
const TIMES_FREE: usize = 4;

/// The server's capacity, and the requests that occupy it.
#[derive(Clone)]
pub struct Room {
    /// Instances, times the requests that each serves at a time.
    requests: usize,
    /// Its strong count is the number of requests, plus one.
    taken: Arc<()>,
}

/// Requests in flight of one connection, by strong count.
#[derive(Clone, Default)]
pub struct Requests(Arc<()>);

/// Guard of one request, held until its instance is done with it and its response is over.
pub struct Share {
    _of_server: Arc<()>,
    _of_connection: Option<Requests>,
}

impl Room {
    /// Makes room for this many requests at a time.
    pub fn new(requests: usize) -> Room {
        Room { requests, taken: Arc::default() }
    }

    /// Returns the value of `SETTINGS_MAX_CONCURRENT_STREAMS`.
    pub fn streams(&self) -> u32 {
        let half = (self.requests / 2).clamp(1, MAX_STREAMS);
        u32::try_from(half).unwrap_or(u32::MAX)
    }

    /// Returns the share of a further request, or `None` if an HTTP/2 connection would exceed its part.
    pub fn share(&self, connection: Option<&Requests>) -> Option<Share> {
        let share =
            || Share { _of_server: self.taken.clone(), _of_connection: connection.cloned() };
        let held = connection.map_or(0, |requests| Arc::strong_count(&requests.0) - 1);
        let taken = Arc::strong_count(&self.taken) - 1;
        let is_alone = held >= taken;
        let left = self.requests.saturating_sub(taken + 1);
        (held == 0 || is_alone || held < TIMES_FREE * left).then(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the shares that a connection gets if it wants this many.
    fn take(room: &Room, connection: &Requests, wanted: u32) -> Vec<Share> {
        (0..wanted.min(room.streams())).map_while(|_| room.share(Some(connection))).collect()
    }

    #[test]
    fn a_connection_finds_an_instance_beside_greedy_ones() {
        for requests in [4, 8, 64, 128, 1024] {
            let room = Room::new(requests);
            let connections: Vec<Requests> = (0..2).map(|_| Requests::default()).collect();
            let taken: Vec<_> = connections.iter().map(|it| take(&room, it, 100)).collect();
            let count: usize = taken.iter().map(Vec::len).sum();
            assert!(count < requests, "{count} of {requests}");
            assert!(count >= (requests * 3 / 4).min(150), "{count} of {requests}");
        }
    }

    #[test]
    fn a_connection_alone_has_what_it_was_told_it_may_have() {
        for (requests, streams) in [(1, 1), (2, 1), (3, 1), (4, 2), (128, 64), (1024, 100)] {
            let room = Room::new(requests);
            assert_eq!(room.streams(), streams);
            let connection = Requests::default();
            assert_eq!(take(&room, &connection, 1000).len(), streams as usize);
        }
    }

    #[test]
    fn what_is_given_back_is_there_for_others() {
        let room = Room::new(4);
        let (one, other) = (Requests::default(), Requests::default());
        let taken = (take(&room, &one, 2), take(&room, &other, 2));
        assert_eq!((taken.0.len(), taken.1.len()), (2, 1));
        drop(taken);
        assert_eq!(take(&room, &other, 2).len(), 2);
    }
}
