//! Harms one process. It looks for the process during a part of a Pod's life, and harms it some time after it has found
//! it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::Node;
use tests::processes::Process;

use crate::bundles::Bundles;
use crate::plan::{How, Strike, Victim};
use crate::story::Story;
use crate::victims::Search;
use crate::weather::Weather;

/// Interval between two searches. A search mostly reads /proc.
const INTERVAL: Duration = Duration::from_millis(1);

/// The surroundings of a strike.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// The node.
    pub node: &'a Node,
    /// The ids of the Pods.
    pub bundles: &'a Bundles,
    /// The harm to the whole node.
    pub weather: &'a Weather,
}

/// A strike in progress.
#[derive(Debug)]
pub struct Striking {
    /// The planned strike.
    pub strike: Strike,
    /// Set as soon as the search ends.
    pub over: AtomicBool,
    /// Set before any harm is done.
    pub done: AtomicBool,
}

impl Striking {
    /// Makes a strike that has not begun.
    pub fn new(strike: Strike) -> Self {
        Self { strike, over: AtomicBool::new(false), done: AtomicBool::new(false) }
    }

    /// Returns whether one of these victims was harmed, or is about to be.
    pub fn has_met(&self, victims: &[Victim]) -> bool {
        self.done.load(Ordering::SeqCst) && victims.contains(&self.strike.victim)
    }

    /// Looks for the victim in the Pod of that name and harms it. It is no error if the victim is not found.
    ///
    /// # Errors
    /// Fails if containerd does not come back.
    pub fn carry_out(&self, scene: Scene<'_>, pod: &str, story: &Story) -> Result<()> {
        let Strike { victim, after, how, .. } = self.strike;
        if victim == Victim::Containerd {
            sleep(after);
            self.done.store(true, Ordering::SeqCst);
            return at_containerd(scene, how, story);
        }
        let search = Search::begin(scene.bundles.sandbox(pod).as_deref());
        while !self.over.load(Ordering::SeqCst) {
            let Some((process, begun)) = find(&search, scene.bundles, pod, victim) else {
                sleep(INTERVAL);
                continue;
            };
            sleep(after);
            // The pid may belong to another process by now.
            if process.begun() == Some(begun) {
                self.done.store(true, Ordering::SeqCst);
                at_process(victim, &process, begun, how, story);
                return Ok(());
            }
        }
        story.note(&format!("{victim:?} was not found"));
        Ok(())
    }
}

/// Returns the victim, and its start time.
fn find(search: &Search, bundles: &Bundles, pod: &str, victim: Victim) -> Option<(Process, u64)> {
    let process = search.find(victim, &bundles.sandbox(pod)?)?;
    let begun = process.begun()?;
    Some((process, begun))
}

fn at_process(victim: Victim, process: &Process, begun: u64, how: How, story: &Story) {
    let send = |signal: Signal| {
        if process.begun() == Some(begun) {
            // The process may have ended in this very moment.
            let sent = if process.kill(signal).is_ok() { "to" } else { "too late for" };
            story.note(&format!("{signal} {sent} {victim:?} {} ({})", process.pid, process.name));
        }
    };
    let (lasts, last) = match how {
        How::Kill => return send(Signal::SIGKILL),
        How::Pause(lasts) => (lasts, Signal::SIGCONT),
        How::PauseAndKill(lasts) => (lasts, Signal::SIGKILL),
    };
    send(Signal::SIGSTOP);
    sleep(lasts);
    send(last);
}

fn at_containerd(scene: Scene<'_>, how: How, story: &Story) -> Result<()> {
    // Another Pod's strike may be in progress, and there is only one containerd.
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match how {
        How::Kill | How::PauseAndKill(_) => {
            story.note("containerd is killed");
            let away = Duration::from_millis(fastrand::u64(..500));
            scene.weather.restart_containerd(scene.node, away)?;
            story.note("containerd is back");
        }
        How::Pause(lasts) => {
            story.note(&format!("containerd is stopped for {} ms", lasts.as_millis()));
            scene.weather.pause_containerd(scene.node, lasts).context("stop containerd")?;
        }
    }
    Ok(())
}
