//! Calls of a Pod's life, and what it means if one fails.

use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Result;

use super::{LOOKING, Life};
use crate::plan::Victim;

/// Part of an error after containerd was killed: it fails on a snapshot's directory that it had made and not recorded.
/// With the next number it succeeds.
const AFTER_A_RESTART: &str = "snapshots/new-";

impl Life<'_> {
    /// Makes a call. It is a violation if the call fails without an excuse, or does not return.
    pub(super) fn call<T>(
        &mut self,
        name: &'static str,
        call: impl FnOnce() -> Result<T>,
    ) -> Option<T> {
        let (mark, start) = (self.scene.weather.mark(), Instant::now());
        let result = call();
        self.tally.call(name, start.elapsed());
        match result {
            Ok(answer) => {
                if name != LOOKING {
                    let took = start.elapsed().as_millis();
                    self.story.note(&format!("{name} took {took} ms"));
                }
                Some(answer)
            }
            Err(error) => {
                let is_excused = self.is_harmed()
                    || self.scene.weather.was_bad_since(mark)
                    || self.scene.weather.was_ever_restarted()
                        && error.to_string().contains(AFTER_A_RESTART);
                if self.scene.weather.was_restarted_since(mark) {
                    self.story.cut(name);
                }
                self.failed(name, &format!("{error:#}"), is_excused);
                None
            }
        }
    }

    fn failed(&mut self, name: &'static str, error: &str, is_excused: bool) {
        self.tally.failure(error);
        self.harmed |= name != LOOKING;
        if error.contains("no answer") {
            self.violation(&format!("no answer to {name}"));
        } else if is_excused {
            self.story.failure(error);
        } else {
            self.violation(&format!("failed without a reason: {error}"));
        }
        self.scene.weather.wait_for_calm();
    }

    pub(super) fn is_harmed(&self) -> bool {
        self.harmed || self.striking.is_some_and(|it| it.done.load(Ordering::SeqCst))
    }

    pub(super) fn has_met(&self, victims: &[Victim]) -> bool {
        self.striking.is_some_and(|striking| striking.has_met(victims))
    }

    pub(super) fn violation(&self, what: &str) {
        self.story.violation(what);
    }
}
