//! Polling, for events of the kernel or of another process that no descriptor reports.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Error;

/// Number of tries, and the pause after each.
#[derive(Debug, Clone, Copy)]
pub struct Tries {
    /// The most tries.
    pub count: u32,
    /// Pause after each try.
    pub pause: Duration,
}

/// Calls `look` until it has an answer; `None` if it had none at any try.
pub fn until<T>(tries: Tries, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    (0..tries.count).find_map(|_| {
        let answer = look();
        if answer.is_none() {
            sleep(tries.pause);
        }
        answer
    })
}

/// Calls `look` until it has an answer or fails.
///
/// # Errors
/// As of `look`.
pub fn try_until<T>(
    tries: Tries,
    mut look: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<Option<T>, Error> {
    until(tries, || look().transpose()).transpose()
}

/// Repeats an attempt until its outcome is final, or there is no time for another one before `deadline`. Returns the last
/// outcome.
pub fn repeat_by<T>(
    deadline: Instant,
    pause: Duration,
    is_final: impl Fn(&T) -> bool,
    mut attempt: impl FnMut() -> T,
) -> T {
    loop {
        let outcome = attempt();
        if is_final(&outcome) || Instant::now() + pause >= deadline {
            return outcome;
        }
        sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Tries = Tries { count: 3, pause: Duration::ZERO };

    #[test]
    fn the_first_answer_or_error_is_the_last() {
        let mut looked = 0;
        let second = until(THREE, || {
            looked += 1;
            (looked == 2).then_some("answer")
        });
        assert_eq!((second, looked), (Some("answer"), 2));
        let mut looked = 0;
        let failed = try_until(THREE, || {
            looked += 1;
            Err::<Option<()>, _>(Error::Gone { process: "request" })
        });
        assert_eq!((failed.is_err(), looked), (true, 1));
    }

    #[test]
    fn it_ends_without_an_answer() {
        let mut looked = 0;
        let none = until::<()>(THREE, || {
            looked += 1;
            None
        });
        assert_eq!((none, looked), (None, 3));
    }

    #[test]
    fn an_attempt_is_repeated_up_to_the_deadline_and_made_at_least_once() {
        let attempts = |deadline: Duration, success: u32| {
            let mut made = 0;
            let pause = Duration::from_millis(100);
            let last = repeat_by(
                Instant::now() + deadline,
                pause,
                |made| *made >= success,
                || {
                    made += 1;
                    made
                },
            );
            assert_eq!(last, made);
            made
        };
        assert_eq!(attempts(Duration::from_secs(20), 3), 3);
        assert_eq!(attempts(Duration::ZERO, 3), 1);
        let made = attempts(Duration::from_millis(550), u32::MAX);
        assert!((2..=6).contains(&made), "{made}");
    }
}
