//! Keeps the end of the guest's standard error, because a guest's last lines often show why it ended.

use std::sync::{Mutex, PoisonError};

/// How much is kept, in bytes.
pub const KEPT: usize = 1 << 10;

static END: Mutex<End> = Mutex::new(End(Vec::new()));

/// Keeps the end of what is written.
pub fn keep(bytes: &[u8]) {
    END.lock().unwrap_or_else(PoisonError::into_inner).keep(bytes);
}

/// The last lines that were written, each of them whole but one that is longer than what is kept.
pub fn last_lines() -> String {
    END.lock().unwrap_or_else(PoisonError::into_inner).last_lines()
}

/// Whether what was written last is a line that has not ended.
pub fn has_open_line() -> bool {
    END.lock().unwrap_or_else(PoisonError::into_inner).has_open_line()
}

/// The last bytes of a text.
struct End(Vec<u8>);

impl End {
    fn keep(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let surplus = self.0.len().saturating_sub(KEPT);
        self.0.drain(..surplus);
    }

    fn has_open_line(&self) -> bool {
        self.0.last().is_some_and(|last| *last != b'\n')
    }

    fn last_lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let is_cut = self.0.len() == KEPT;
        match text.split_once('\n') {
            Some((_, whole)) if is_cut && !whole.is_empty() => whole.to_owned(),
            _ => text.into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_open_until_it_ends() {
        let mut end = End(Vec::new());
        assert!(!end.has_open_line());
        end.keep(b"one\ntw");
        assert!(end.has_open_line());
        end.keep(b"o\n");
        assert!(!end.has_open_line());
    }

    #[test]
    fn the_last_lines_are_kept_whole() {
        let mut end = End(Vec::new());
        end.keep(b"one\ntwo\n");
        assert_eq!(end.last_lines(), "one\ntwo\n");
        for number in 0..1000 {
            end.keep(format!("line {number}\n").as_bytes());
        }
        let lines = end.last_lines();
        assert!(lines.len() < KEPT && lines.ends_with("line 998\nline 999\n"), "{lines}");
        assert!(lines.lines().all(|line| line.starts_with("line ")), "{lines}");
        end.keep(&[b'x'; 3 * KEPT]);
        assert_eq!(end.last_lines(), "x".repeat(KEPT));
    }
}
