//! Keeps the end of the guest's standard error, because a guest's last lines often show why it ended.

use std::sync::{Mutex, PoisonError};

/// How much is kept, in bytes.
pub const KEPT: usize = 1 << 10;

static END: Mutex<End> = Mutex::new(End::NOTHING);

/// Keeps the end of these bytes, of which only some are written, or something in their place.
pub fn keep(bytes: &[u8], written: &[u8]) {
    END.lock().unwrap_or_else(PoisonError::into_inner).keep(bytes, written);
}

/// The last lines that were written, each of them whole but one that is longer than what is kept.
pub fn last_lines() -> String {
    END.lock().unwrap_or_else(PoisonError::into_inner).last_lines()
}

/// Whether what was written last is a line that has not ended.
pub fn has_open_line() -> bool {
    END.lock().unwrap_or_else(PoisonError::into_inner).has_open_line
}

/// The end of standard error.
struct End {
    /// The last bytes, with those that were not written.
    bytes: Vec<u8>,
    has_open_line: bool,
}

impl End {
    const NOTHING: End = End { bytes: Vec::new(), has_open_line: false };

    fn keep(&mut self, bytes: &[u8], written: &[u8]) {
        self.bytes.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        let surplus = self.bytes.len().saturating_sub(KEPT);
        self.bytes.drain(..surplus);
        if let Some(last) = written.last() {
            self.has_open_line = *last != b'\n';
        }
    }

    fn last_lines(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        let is_cut = self.bytes.len() == KEPT;
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
        let mut end = End::NOTHING;
        assert!(!end.has_open_line);
        end.keep(b"one\ntw", b"one\ntw");
        assert!(end.has_open_line);
        end.keep(b"o\n", b"");
        assert!(end.has_open_line, "its end was not written");
        end.keep(b"o\n", b"o\n");
        assert!(!end.has_open_line);
    }

    #[test]
    fn the_last_lines_are_kept_whole() {
        let mut end = End::NOTHING;
        let mut keep = |text: &[u8]| {
            end.keep(text, text);
            end.last_lines()
        };
        assert_eq!(keep(b"one\ntwo\n"), "one\ntwo\n");
        let lines = (0..1000).map(|number| keep(format!("line {number}\n").as_bytes()));
        let lines = lines.last().expect("there are some");
        assert!(lines.len() < KEPT && lines.ends_with("line 998\nline 999\n"), "{lines}");
        assert!(lines.lines().all(|line| line.starts_with("line ")), "{lines}");
        assert_eq!(keep(&[b'x'; 3 * KEPT]), "x".repeat(KEPT));
    }
}
