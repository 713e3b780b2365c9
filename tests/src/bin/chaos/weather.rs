//! Harms a whole node: kills and restarts containerd, fills the disk, deletes images.
//!
//! A call during which this happens may fail. A caller takes a [`Mark`] before the call and asks afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use nix::sys::signal::Signal;
use tests::Node;
use tests::disk::Disk;
use tests::processes::Process;

/// Time limit for the wait for calm. It is longer than containerd takes to start.
const PATIENCE: Duration = Duration::from_secs(40);

/// The state of one node.
#[derive(Debug, Default)]
pub struct Weather {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    begun: u64,
    restarts: u64,
    under_way: usize,
}

/// A point in time.
#[derive(Debug, Clone, Copy)]
pub struct Mark(State);

/// Harm that lasts as long as this value.
#[derive(Debug)]
struct Spell<'a>(&'a Weather);

impl Weather {
    /// Returns a mark of the present.
    pub fn mark(&self) -> Mark {
        Mark(*self.state())
    }

    /// Returns whether any harm was in progress between the mark and now.
    pub fn was_bad_since(&self, mark: Mark) -> bool {
        mark.0.under_way > 0 || self.state().begun != mark.0.begun
    }

    /// Returns whether containerd was killed since the mark.
    pub fn was_restarted_since(&self, mark: Mark) -> bool {
        self.state().restarts != mark.0.restarts
    }

    /// Returns whether containerd was ever killed.
    pub fn was_ever_restarted(&self) -> bool {
        self.state().restarts > 0
    }

    /// Waits until no harm is in progress, with a time limit.
    pub fn wait_for_calm(&self) {
        let is_bad = |state: &mut State| state.under_way > 0;
        let waited = self.changed.wait_timeout_while(self.state(), PATIENCE, is_bad);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Kills containerd, and starts it again after that time.
    ///
    /// # Errors
    /// Fails if it does not start.
    pub fn restart_containerd(&self, node: &Node, after: Duration) -> Result<()> {
        let _spell = self.begin();
        self.state().restarts += 1;
        node.end_containerd(Signal::SIGKILL)?;
        sleep(after);
        node.start_containerd().context("containerd does not start again")
    }

    /// Stops containerd for that time. This is no excuse for a failed call, because containerd answers later.
    ///
    /// # Errors
    /// Fails if containerd does not run.
    pub fn pause_containerd(&self, node: &Node, lasts: Duration) -> Result<()> {
        let pid = node.daemon_pid().context("containerd does not run")?;
        let containerd = Process::at(pid).context("containerd has ended")?;
        containerd.kill(Signal::SIGSTOP)?;
        sleep(lasts);
        containerd.kill(Signal::SIGCONT)
    }

    /// Fills the disk for some time, repeatedly until `over` is set. Returns how often.
    ///
    /// # Errors
    /// Fails if the disk cannot be filled or emptied.
    pub fn fill_disk(&self, disk: &Disk, mut rng: Rng, over: &AtomicBool) -> Result<usize> {
        let mut times = 0;
        while pass(&mut rng, 200..1200, over) {
            let spell = self.begin();
            let filled = disk.fill().context("fill the disk")?;
            sleep(Duration::from_millis(rng.u64(50..1000)));
            drop(filled);
            drop(spell);
            times += 1;
        }
        Ok(times)
    }

    /// Deletes an image and imports it again, repeatedly until `over` is set. Returns how often.
    ///
    /// # Errors
    /// Fails if the image cannot be deleted or imported.
    pub fn delete_images(
        &self,
        node: &Node,
        images: &[&str],
        mut rng: Rng,
        over: &AtomicBool,
    ) -> Result<usize> {
        let mut times = 0;
        while pass(&mut rng, 200..1500, over) {
            let _spell = self.begin();
            let name = images[rng.usize(..images.len())];
            node.delete_image(name).with_context(|| format!("delete image {name}"))?;
            sleep(Duration::from_millis(rng.u64(..400)));
            node.image(name)?;
            times += 1;
        }
        Ok(times)
    }

    fn begin(&self) -> Spell<'_> {
        let mut state = self.state();
        state.begun += 1;
        state.under_way += 1;
        Spell(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spell<'_> {
    fn drop(&mut self) {
        self.0.state().under_way -= 1;
        self.0.changed.notify_all();
    }
}

/// Waits for a number of milliseconds. Returns false as soon as `over` is set.
fn pass(rng: &mut Rng, milliseconds: std::ops::Range<u64>, over: &AtomicBool) -> bool {
    for _ in 0..rng.u64(milliseconds) / 10 {
        if over.load(Ordering::Relaxed) {
            return false;
        }
        sleep(Duration::from_millis(10));
    }
    true
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_call_is_excused_by_what_begins_ends_or_passes_in_its_time() {
        let weather = Weather::default();
        let before = weather.mark();
        assert!(!weather.was_bad_since(before));
        let spell = weather.begin();
        let amid = weather.mark();
        assert!(weather.was_bad_since(before), "begun");
        assert!(weather.was_bad_since(amid), "under way");
        drop(spell);
        assert!(weather.was_bad_since(before), "passed");
        assert!(weather.was_bad_since(amid), "ended");
        assert!(!weather.was_bad_since(weather.mark()), "calm again");
        weather.wait_for_calm();
    }
}
