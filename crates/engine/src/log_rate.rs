//! Limits how many lines a second a guest writes. Further lines are dropped and counted, as journald does, and a line of the
//! runtime's says how many they were.
//!
//! The limit is that of the process, as its stdout and stderr are. Without it, a write costs one read of a static.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use grants::quantity::Count;
use grants::{Giver, Limit};

use crate::output::log_about_output;

/// The time in which so many lines may be written.
const SECOND: Duration = Duration::from_secs(1);

/// Length that counts as one line, in bytes: CRI's logs break longer ones.
const LINE: usize = 16 << 10;

/// The number of stderr; that of stdout is 0.
const STDERR: usize = 1;

/// The stack of the thread that reports.
const THREAD_STACK: usize = 64 << 10;

static RATE: OnceLock<LogRate> = OnceLock::new();

/// The limit, and what has been written of late.
pub struct LogRate {
    most: Count,
    giver: Giver,
    state: Mutex<State>,
}

struct State {
    /// When the current second began.
    since: Instant,
    /// Lines that were written in it.
    written: u32,
    /// Lines that were dropped and not reported yet.
    dropped: u64,
    /// Whether a thread will report them.
    is_reporting: bool,
    /// The current lines of stdout and stderr.
    current: [Line; 2],
    /// Whether the end of what was to be written to stderr was dropped.
    is_end_dropped: bool,
}

/// The line that a guest is writing to a stream.
#[derive(Default)]
struct Line {
    /// Its bytes so far.
    bytes: usize,
    /// Whether its current part is dropped.
    is_dropped: bool,
    /// Whether what was written ends within the line.
    is_open: bool,
}

/// Limits the guest of this process. To be called once, before its first instance.
pub fn grant(limit: &Limit<Count>) {
    if let Some((most, giver)) = limit.get() {
        let _ = RATE.set(LogRate { most, giver, state: Mutex::new(State::new(Instant::now())) });
    }
}

/// The limit, if there is one.
pub fn get() -> Option<&'static LogRate> {
    RATE.get()
}

/// Reports what has been dropped, for a process that is about to end. If the end of stderr was dropped, `last_lines` are
/// what it was.
pub fn finish(last_lines: &str) {
    let Some(rate) = get() else { return };
    let is_end_dropped = rate.state().is_end_dropped;
    rate.report();
    if is_end_dropped {
        let text = format!("the last lines on stderr were:\n{last_lines}");
        log_about_output(text.trim_end().as_bytes());
    }
}

/// Whether there is something to [`finish`].
pub fn has_dropped() -> bool {
    get().is_some_and(|rate| {
        let state = rate.state();
        state.dropped > 0 || state.is_end_dropped
    })
}

impl LogRate {
    /// What may be written of these bytes to stdout (0) or stderr (1).
    pub fn pass(&'static self, stream: usize, bytes: &[u8]) -> Vec<u8> {
        let mut state = self.state();
        let passed = state.pass(self.most, stream, bytes, Instant::now());
        self.report_soon(state);
        passed
    }

    /// What may be written of these whole lines, whatever the current line of that stream is.
    pub fn pass_apart(&'static self, stream: usize, lines: &[u8]) -> Vec<u8> {
        let mut state = self.state();
        let passed = state.pass_apart(self.most, stream, lines, Instant::now());
        self.report_soon(state);
        passed
    }

    /// Something else has ended the current line of that stream.
    pub fn closed(&self, stream: usize) {
        self.state().closed(stream);
    }

    fn report_soon(&'static self, mut state: MutexGuard<'_, State>) {
        if state.dropped == 0 || state.is_reporting {
            return;
        }
        let thread = thread::Builder::new().name("log".into()).stack_size(THREAD_STACK);
        let started = thread.spawn(|| {
            thread::sleep(SECOND);
            while self.report() {
                thread::sleep(SECOND);
            }
        });
        // Without a thread, the next line that is dropped has one started.
        state.is_reporting = started.is_ok();
    }

    /// Reports what has been dropped since the last report. Returns whether there was anything.
    fn report(&self) -> bool {
        let mut state = self.state();
        let dropped = std::mem::take(&mut state.dropped);
        state.is_reporting &= dropped > 0;
        // What is reported is written as all other lines are, which may take long.
        drop(state);
        if dropped > 0 {
            log_about_output(text(dropped, self.most, self.giver).as_bytes());
        }
        dropped > 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(dropped: u64, most: Count, giver: Giver) -> String {
    let lines = if dropped == 1 { "line was" } else { "lines were" };
    let (place, key) = (giver.place(), provided::LOG_RATE.key);
    format!(
        "warning: {dropped} {lines} dropped: the guest may write {most} a second ({place}, {key})"
    )
}

impl State {
    fn new(now: Instant) -> State {
        let current = [Line::default(), Line::default()];
        State {
            since: now,
            written: 0,
            dropped: 0,
            is_reporting: false,
            current,
            is_end_dropped: false,
        }
    }

    /// Counts one more line. Returns whether it may be written.
    fn take(&mut self, most: Count, now: Instant) -> bool {
        if now.duration_since(self.since) >= SECOND {
            self.since = now;
            self.written = 0;
        }
        let passes = self.written < most.get();
        match passes {
            true => self.written += 1,
            false => self.dropped += 1,
        }
        passes
    }

    fn pass(&mut self, most: Count, stream: usize, bytes: &[u8], now: Instant) -> Vec<u8> {
        let mut line = std::mem::take(&mut self.current[stream]);
        let passed = self.pass_in(&mut line, most, bytes, now);
        self.note_end(stream, line.is_dropped);
        self.current[stream] = line;
        passed
    }

    fn pass_apart(&mut self, most: Count, stream: usize, lines: &[u8], now: Instant) -> Vec<u8> {
        let mut line = Line::default();
        let passed = self.pass_in(&mut line, most, lines, now);
        self.note_end(stream, line.is_dropped);
        passed
    }

    fn closed(&mut self, stream: usize) {
        self.current[stream].is_open = false;
    }

    fn note_end(&mut self, stream: usize, is_dropped: bool) {
        if stream == STDERR {
            self.is_end_dropped = is_dropped;
        }
    }

    fn pass_in(&mut self, line: &mut Line, most: Count, bytes: &[u8], now: Instant) -> Vec<u8> {
        let mut passed = Vec::with_capacity(bytes.len());
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = LINE - line.bytes % LINE;
            if room == LINE {
                line.is_dropped = !self.take(most, now);
                if line.is_dropped && std::mem::take(&mut line.is_open) {
                    passed.push(b'\n');
                }
            }
            let end = rest.iter().take(room).position(|byte| *byte == b'\n');
            let (part, others) = rest.split_at(end.map_or(room.min(rest.len()), |end| end + 1));
            if !line.is_dropped {
                passed.extend_from_slice(part);
                line.is_open = end.is_none();
            }
            line.bytes = if end.is_some() { 0 } else { line.bytes + part.len() };
            rest = others;
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn most(lines: u32) -> Count {
        lines.to_string().parse().expect("a number")
    }

    fn passed(state: &mut State, stream: usize, text: &str, now: Instant) -> String {
        let passed = state.pass(most(3), stream, text.as_bytes(), now);
        String::from_utf8(passed).expect("text")
    }

    #[test]
    fn so_many_lines_a_second_are_written_and_the_others_counted_however_they_are_written() {
        let now = Instant::now();
        let mut state = State::new(now);
        assert_eq!(passed(&mut state, 0, "1\n2\nhal", now), "1\n2\nhal");
        // The line was begun, so that it is written to its end.
        assert_eq!(passed(&mut state, 0, "f\n4\n5", now), "f\n");
        assert_eq!(passed(&mut state, 0, "5\n", now), "");
        assert_eq!(passed(&mut state, 1, "of both\n", now), "");
        assert_eq!(state.dropped, 3);
        let later = now + SECOND;
        assert_eq!(passed(&mut state, 1, "a\nb\nc\nd\n", later), "a\nb\nc\n");
        assert_eq!(state.dropped, 4);
    }

    #[test]
    fn a_line_without_an_end_counts_as_several_and_is_cut_at_its_part() {
        let now = Instant::now();
        let mut state = State::new(now);
        let text = passed(&mut state, 0, &"x".repeat(10 * LINE), now);
        assert_eq!(text, "x".repeat(3 * LINE) + "\n");
        assert_eq!(passed(&mut state, 0, "the end\n", now), "");
        assert_eq!(state.dropped, 8);
        assert_eq!(passed(&mut state, 0, "next\n", now + SECOND), "next\n");
    }

    #[test]
    fn a_line_that_something_else_has_ended_is_not_ended_again() {
        let now = Instant::now();
        let mut state = State::new(now);
        let whole = "x".repeat(LINE);
        assert_eq!(passed(&mut state, 0, &whole, now), whole);
        state.closed(0);
        state.written = 3;
        assert_eq!(passed(&mut state, 0, "dropped", now), "");
    }

    #[test]
    fn whole_lines_count_as_well_and_leave_the_current_line_as_it_is() {
        let now = Instant::now();
        let mut state = State::new(now);
        assert_eq!(passed(&mut state, STDERR, "hal", now), "hal");
        let lines = b"error: trap\nframe\nframe";
        assert_eq!(state.pass_apart(most(3), STDERR, lines, now), b"error: trap\nframe\n");
        assert!(state.is_end_dropped && state.dropped == 1);
        assert_eq!(passed(&mut state, STDERR, "f\n", now), "f\n");
        assert!(!state.is_end_dropped);
        let long = "x".repeat(2 * LINE);
        let text = state.pass_apart(most(3), STDERR, long.repeat(2).as_bytes(), now + SECOND);
        assert_eq!(text.len(), 3 * LINE + 1, "a long one counts as several");
    }

    #[test]
    fn a_report_has_the_number_and_who_set_the_limit() {
        assert_eq!(
            text(7, most(100), Giver::Node),
            "warning: 7 lines were dropped: the guest may write 100 a second (node's file, wasmtime.shim/log-rate)"
        );
        assert!(text(1, most(1), Giver::Pod).starts_with("warning: 1 line was dropped: "));
    }
}
