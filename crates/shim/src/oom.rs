//! TaskOOM events: reports processes that the kernel killed because their container ran out of memory. They come before
//! the container's exit, so that kubelet shows `OOMKilled`.
//!
//! No thread waits for kills, because the async runtime watches the descriptor that reports them.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use containerd_shim::protos::events::task::TaskOOM;
use sandbox::cgroup::{Cgroup, oom};

use crate::errors::Error;
use crate::events::Events;
use crate::ready::ready_fd;

/// How often, and after which pause, to check for a kill that v1 has announced: a second in all. There is none if the kill was in
/// another cgroup.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(20);

/// Kills in one container.
pub struct OomKills<'a> {
    id: &'a str,
    cgroup: &'a Cgroup,
    events: &'a Events,
    published: u64,
    /// Kills in cgroups that were gone before.
    gone: Option<u64>,
}

impl<'a> OomKills<'a> {
    /// Kills in a container, of which none is published yet.
    pub fn of(id: &'a str, cgroup: &'a Cgroup, events: &'a Events) -> OomKills<'a> {
        OomKills { id, cgroup, events, published: 0, gone: cgroup.oom_kills_of_gone() }
    }

    /// Publishes kills as they come, until the future is dropped.
    pub async fn publish(&mut self) -> Infallible {
        let Err(error) = self.publish_each().await;
        log::warn!("container {}: kills are only reported at its end: {error}", self.id);
        pending().await
    }

    /// Publishes the last kills, and waits until containerd has accepted them. It gets the exit by another call, and would show
    /// another reason for a moment otherwise. `by_kernel` is whether the first process was killed, and not by a call of containerd.
    pub async fn publish_last(&mut self, by_kernel: bool) {
        if !self.publish_new() && by_kernel && self.is_gone_with_a_kill() {
            self.publish_event(1);
        }
        if self.published > 0 {
            self.events.taken().await;
        }
    }

    async fn publish_each(&mut self) -> Result<Infallible, Error> {
        let notice = ready_fd(self.cgroup.oom_notice()?).map_err(Error::io("watch a cgroup"))?;
        loop {
            let mut ready = notice.readable().await.map_err(Error::io("watch a cgroup"))?;
            ready.clear_ready();
            oom::clear(notice.get_ref());
            // v2 has counted the kill by now. It also reports many times a second without a kill.
            let tries = if self.cgroup.is_v2() { 1 } else { TRIES };
            for _ in 0..tries {
                let has_new = self.publish_new();
                tokio::time::sleep(PAUSE).await;
                if has_new {
                    break;
                }
            }
        }
    }

    /// Publishes new kills. Returns whether there were any. Several at once are one event, as of runc's shim.
    fn publish_new(&mut self) -> bool {
        let kills = self.cgroup.oom_kills().unwrap_or_default();
        let has_new = kills > self.published;
        if has_new {
            self.publish_event(kills);
        }
        has_new
    }

    fn publish_event(&mut self, kills: u64) {
        self.published = kills;
        self.events.publish(TaskOOM { container_id: self.id.into(), ..Default::default() });
    }

    /// Whether systemd has removed the cgroup before its counter was read, and there was a kill in it: at least in one of the Pod's
    /// cgroups that have gone since the container's start.
    fn is_gone_with_a_kill(&self) -> bool {
        let has_risen =
            self.gone.zip(self.cgroup.oom_kills_of_gone()).is_some_and(|(old, new)| new > old);
        has_risen && self.published == 0 && self.cgroup.oom_kills().is_none()
    }
}
