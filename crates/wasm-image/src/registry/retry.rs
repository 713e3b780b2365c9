//! Repeats requests that may succeed later, after a wait that doubles or that the registry asks for.

use std::time::Duration;

use anyhow::Result;

use crate::errors::Error;
use crate::limits::{FIRST_WAIT, LONGEST_ASKED_WAIT, LONGEST_WAIT};
use crate::progress;

/// The attempts at one request.
#[derive(Debug)]
pub struct Retries {
    allowed: u32,
    failed: u32,
    furthest: u64,
}

impl Retries {
    /// Allows this many attempts after the first.
    pub fn new(allowed: u32) -> Self {
        Self { allowed, failed: 0, furthest: 0 }
    }

    /// Resets the count if there are more bytes than ever before. Bytes that are sent again after a loss do not count,
    /// because a registry that forgets what it takes would otherwise be tried for ever.
    pub fn reached(&mut self, bytes: u64) {
        if bytes > self.furthest {
            self.furthest = bytes;
            self.failed = 0;
        }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// `error` itself, if it is permanent or there were enough attempts.
    pub async fn wait(&mut self, error: anyhow::Error) -> Result<()> {
        let asked = match error.downcast_ref::<Error>() {
            Some(passing) if passing.is_passing() => passing.asked_wait(),
            _ => return Err(error),
        };
        self.failed += 1;
        match delay(self.failed, asked) {
            Some(delay) if self.failed <= self.allowed => {
                progress::note(&format!("{error}; trying again in {:.1} s", delay.as_secs_f64()));
                tokio::time::sleep(delay).await;
                Ok(())
            }
            _ => Err(match error.downcast::<Error>() {
                Ok(passing) => passing.after(self.failed).into(),
                Err(other) => other,
            }),
        }
    }
}

/// Returns the wait after that many failures, or `None` if the registry asks for a wait that is too long.
fn delay(failed: u32, asked: Option<Duration>) -> Option<Duration> {
    let doubled = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failed.saturating_sub(1)));
    let own = doubled.min(LONGEST_WAIT);
    match asked {
        Some(asked) if asked > LONGEST_ASKED_WAIT => None,
        Some(asked) => Some(asked.max(own.min(FIRST_WAIT))),
        None => Some(own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_gets_further_than_ever_is_progress() {
        let mut retries = Retries { failed: 3, ..Retries::new(5) };
        retries.reached(0);
        assert_eq!(retries.failed, 3);
        retries.reached(100);
        assert_eq!(retries.failed, 0);
        retries.failed = 2;
        for again in [50, 100] {
            retries.reached(again);
            assert_eq!(retries.failed, 2, "{again}");
        }
        retries.reached(101);
        assert_eq!(retries.failed, 0);
    }

    #[test]
    fn the_wait_doubles_up_to_the_longest() {
        let own = |failed| delay(failed, None).unwrap();
        assert_eq!((own(1), own(2), own(4)), (FIRST_WAIT, FIRST_WAIT * 2, FIRST_WAIT * 8));
        assert_eq!((own(20), own(u32::MAX)), (LONGEST_WAIT, LONGEST_WAIT));
    }

    #[test]
    fn what_the_registry_asks_for_is_waited_unless_it_is_too_long() {
        let asked = |seconds| delay(1, Some(Duration::from_secs(seconds)));
        assert_eq!(asked(7), Some(Duration::from_secs(7)));
        assert_eq!(asked(0), Some(FIRST_WAIT));
        assert_eq!(asked(3600), None);
    }
}
