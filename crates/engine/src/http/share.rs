//! How many of a server's instances one connection may have: so many that others are served as well.
//!
//! A connection of HTTP/1.1 has one request at a time. One of HTTP/2 may have many, so two bounds are for it alone: it may
//! have requests for half of what there is room for, which its client is told (`SETTINGS_MAX_CONCURRENT_STREAMS`) and waits
//! for by itself; and where others are served beside it, it gets no further instance that would leave less than a quarter as
//! many free as it has then. So a connection that has none finds one, though some others take all that they get.

use std::sync::Arc;

/// Requests at a time of one connection of HTTP/2, however many instances there are.
const MAX_STREAMS: usize = 100;

/// A connection may have so many times what stays free for others.
const TIMES_FREE: usize = 4;

/// The requests that are being served, of how many may be.
#[derive(Clone)]
pub struct Room {
    /// Instances, times the requests that each serves at a time.
    requests: usize,
    /// There is another one for each request.
    taken: Arc<()>,
}

/// The requests of one connection.
#[derive(Clone, Default)]
pub struct Requests(Arc<()>);

/// A request's part of both, as long as its instance serves it or its response is sent.
pub struct Share {
    _of_server: Arc<()>,
    _of_connection: Option<Requests>,
}

impl Room {
    /// For so many requests at a time.
    pub fn new(requests: usize) -> Room {
        Room { requests, taken: Arc::default() }
    }

    /// The requests that a connection of HTTP/2 may have at a time.
    pub fn streams(&self) -> u32 {
        let half = (self.requests / 2).clamp(1, MAX_STREAMS);
        u32::try_from(half).unwrap_or(u32::MAX)
    }

    /// The part of a further request; none where it would be more than the share of its connection, if that is one of
    /// HTTP/2.
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

    /// What a connection gets that wants so many.
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
