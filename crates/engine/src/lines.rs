//! Lines about failures that a guest can repeat for ever: one of each kind is written, and a flood of kinds is cut off.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::report::log;

/// Lines that may be written at once, and the time after which one more may be.
const LINES: u32 = 16;
const ONE_MORE: Duration = Duration::from_secs(10);

/// Number of kinds that are remembered.
const KINDS: usize = 4096;

/// Lines on the container's stderr.
#[derive(Default)]
pub struct Lines(Mutex<Written>);

/// The kinds that were written, and how many more lines may be.
struct Written {
    kinds: BTreeSet<String>,
    left: u32,
    since: Instant,
}

impl Lines {
    /// Writes a line, unless one of its kind was written already, or too many were written of late.
    pub fn log(&self, kind: &str, line: &str) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.may_write(kind, Instant::now()) {
            log(line);
        }
    }
}

impl Default for Written {
    fn default() -> Written {
        Written { kinds: BTreeSet::new(), left: LINES, since: Instant::now() }
    }
}

impl Written {
    fn may_write(&mut self, kind: &str, now: Instant) -> bool {
        let more = now.duration_since(self.since).as_secs() / ONE_MORE.as_secs();
        if more > 0 {
            self.since = now;
            self.left = self.left.saturating_add(u32::try_from(more).unwrap_or(LINES)).min(LINES);
        }
        if self.left == 0 || self.kinds.contains(kind) {
            return false;
        }
        self.left -= 1;
        if self.kinds.len() >= KINDS {
            self.kinds.clear();
        }
        self.kinds.insert(kind.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_once_and_a_flood_is_cut_off() {
        let start = Instant::now();
        let mut lines = Written { since: start, ..Written::default() };
        assert!(lines.may_write("a", start) && !lines.may_write("a", start));
        let written = (0..1000).filter(|number| lines.may_write(&number.to_string(), start));
        assert_eq!(written.count(), 15);
        assert!(lines.may_write("b", start + ONE_MORE) && !lines.may_write("c", start + ONE_MORE));
        let later = start + 100 * ONE_MORE;
        let written = (2000..3000).filter(|number| lines.may_write(&number.to_string(), later));
        assert_eq!(written.count(), 16);
    }
}
