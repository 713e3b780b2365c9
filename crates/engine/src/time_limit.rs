//! How long a guest may run. A thread waits for the end of that time, because the guest may occupy every other one.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use grants::Giver;
use grants::quantity::Time;
use plan::FailureArtifacts;
use plan::exit_code::LIMIT_REACHED;

use crate::report::log;
use crate::{Plan, artifacts, log_rate, stderr};

/// The stack of a thread that does system calls, and writes texts.
const THREAD_STACK: usize = 64 << 10;

/// How long the last words of a process may take. Whatever reads its output may have stopped reading.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The time limit of a guest that runs.
pub struct TimeLimit(Arc<AtomicBool>);

/// Begins the time of a guest, if it has a limit.
///
/// # Errors
/// Of pthread_create(3).
pub fn begin(plan: &Plan) -> io::Result<Option<TimeLimit>> {
    let Some((most, giver)) = plan.grants.limits.time.get() else { return Ok(None) };
    let is_over = Arc::new(AtomicBool::new(false));
    let (ends, artifacts) = (is_over.clone(), plan.artifacts.clone());
    spawn("time limit", move || {
        thread::sleep(most.get());
        if !ends.swap(true, Ordering::SeqCst) {
            within_moments(move || report(&artifacts, most, giver));
            std::process::exit(LIMIT_REACHED.into())
        }
    })?;
    Ok(Some(TimeLimit(is_over)))
}

impl TimeLimit {
    /// Ends the time of a guest that is done. If the time was over before that, the process ends with that.
    pub fn end(self) {
        while self.0.swap(true, Ordering::SeqCst) {
            thread::park();
        }
    }
}

/// Does the last work of a process, and waits for that no longer than a moment.
pub fn within_moments(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    let work = move || {
        work();
        let _ = done.send(());
    };
    if spawn("last words", work).is_ok() {
        let _ = is_done.recv_timeout(LAST_WORDS);
    }
}

/// First what cannot be blocked by the guest or by whatever reads its output.
fn report(artifacts: &FailureArtifacts, most: Time, giver: Giver) {
    let (place, key) = (giver.place(), provided::TIMEOUT.key);
    let text = format!("error: the guest was ended after {most}, its time limit ({place}, {key})");
    let last_lines = stderr::last_lines();
    artifacts::leave_message(artifacts, &last_lines, Some(&text));
    log_rate::finish(&last_lines);
    log(&text);
    let _ = io::stdout().flush();
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(name.into()).stack_size(THREAD_STACK);
    thread.spawn(work).map(drop)
}
