//! Interrupts guests that run for long, so that others get their turn: counts the engine's epochs while a guest runs. And
//! gives back what instances do not need any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

use crate::serving::slots::Slots;

/// A guest's turn.
const TURN: Duration = Duration::from_millis(10);

/// So many turns without a guest, and the clock stops: a server that nobody asks wakes no processor, and needs no memory.
const TURNS_IDLE: u32 = 100;

/// So many turns, and memory that was not needed meanwhile is given back.
const TURNS_UNUSED: u32 = 200;

/// The stack of a thread that does system calls alone.
const THREAD_STACK: usize = 64 << 10;

/// A thread that runs as long as the process.
pub struct Clock {
    shared: Arc<Shared>,
    thread: Thread,
}

struct Shared {
    running: AtomicUsize,
    is_awake: AtomicBool,
}

/// A guest that runs, until it is dropped.
pub struct Running(Arc<Shared>);

impl Clock {
    /// Starts the thread, which waits until a guest runs. `idle` is called when none has run for a while.
    ///
    /// # Errors
    /// Of pthread_create(3).
    pub fn start(engine: Engine, slots: Arc<Slots>, idle: fn()) -> std::io::Result<Clock> {
        let shared =
            Arc::new(Shared { running: AtomicUsize::new(0), is_awake: AtomicBool::new(false) });
        let counted = shared.clone();
        let thread = thread::Builder::new().name("clock".into()).stack_size(THREAD_STACK);
        let thread = thread.spawn(move || count(&engine, &counted, &slots, idle))?;
        let thread = thread.thread().clone();
        Ok(Clock { shared, thread })
    }

    /// Notes that a guest runs.
    pub fn running(&self) -> Running {
        self.shared.running.fetch_add(1, Ordering::SeqCst);
        if !self.shared.is_awake.swap(true, Ordering::SeqCst) {
            self.thread.unpark();
        }
        Running(self.shared.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn count(engine: &Engine, shared: &Shared, slots: &Slots, idle: fn()) {
    let (mut turns, mut turns_idle) = (0_u32, 0);
    loop {
        if turns_idle == TURNS_IDLE {
            turns_idle = 0;
            shared.is_awake.store(false, Ordering::SeqCst);
            // Whoever gives something back from here on has woken the clock.
            slots.release();
            idle();
            // Whoever came before that found the clock awake.
            while shared.running.load(Ordering::SeqCst) == 0
                && !shared.is_awake.load(Ordering::SeqCst)
            {
                thread::park();
            }
            shared.is_awake.store(true, Ordering::SeqCst);
        }
        thread::sleep(TURN);
        engine.increment_epoch();
        turns_idle = if shared.running.load(Ordering::SeqCst) == 0 { turns_idle + 1 } else { 0 };
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(TURNS_UNUSED) {
            slots.release_unused();
        }
    }
}
