//! Tells containerd of processes that the kernel killed because their container had no more memory, while the
//! container lives and before its end: kubelet then says `OOMKilled`.
//!
//! No thread waits for it: the descriptor is one more of the runtime's.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use containerd_shim::protos::events::task::TaskOOM;
use sandbox::cgroup::{Cgroup, oom};

use crate::errors::Error;
use crate::events::Events;
use crate::ready::ready_fd;

/// A second for the kernel to kill what it was about to kill. Where it was for another cgroup, it does not come.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// The kills in one container.
pub struct OomKills<'a> {
    id: &'a str,
    cgroup: &'a Cgroup,
    events: &'a Events,
    told: u64,
}

impl<'a> OomKills<'a> {
    /// For a container in which nothing was told yet.
    pub fn of(id: &'a str, cgroup: &'a Cgroup, events: &'a Events) -> OomKills<'a> {
        OomKills { id, cgroup, events, told: 0 }
    }

    /// Tells of kills as they come, until it is dropped.
    pub async fn tell(&mut self) -> Infallible {
        let Err(error) = self.tell_each().await;
        log::warn!("container {}: kills are told only at its end: {error}", self.id);
        pending().await
    }

    /// Tells of kills nobody has told, and waits until containerd knows: it asks for the exit by another call, and
    /// the container's reason would be another for a moment.
    pub async fn tell_the_last(&mut self) {
        self.tell_new();
        if self.told > 0 {
            self.events.taken().await;
        }
    }

    async fn tell_each(&mut self) -> Result<Infallible, Error> {
        let notice = ready_fd(self.cgroup.oom_notice()?).map_err(Error::io("watch a cgroup"))?;
        loop {
            let mut ready = notice.readable().await.map_err(Error::io("watch a cgroup"))?;
            ready.clear_ready();
            oom::clear(notice.get_ref());
            // v2 has counted by now; it also gives notice where nobody was killed, many times a second.
            let tries = if self.cgroup.is_unified() { 1 } else { TRIES };
            for _ in 0..tries {
                let told = self.tell_new();
                tokio::time::sleep(PAUSE).await;
                if told {
                    break;
                }
            }
        }
    }

    /// Whether there were any. Several at once are one event, as of runc's shim.
    fn tell_new(&mut self) -> bool {
        let kills = self.cgroup.oom_kills().unwrap_or_default();
        if kills <= self.told {
            return false;
        }
        self.told = kills;
        self.events.publish(TaskOOM { container_id: self.id.into(), ..Default::default() });
        true
    }
}
