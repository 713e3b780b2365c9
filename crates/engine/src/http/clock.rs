//! Interrupts guests that run for long, so that others get their turn: counts the engine's epochs while a guest runs. And
//! gives back what instances do not need any more.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use wasmtime::Engine;

use crate::serving::slots::Slots;

/// A guest's turn.
const TURN: Duration = Duration::from_millis(10);

/// So many turns without a guest, and the clock's thread ends: an idle server wakes no processor, and needs no memory.
const TURNS_IDLE: u32 = 100;

/// So many turns, and memory that was not needed meanwhile is given back.
const TURNS_UNUSED: u32 = 200;

/// The stack of a thread that does system calls alone.
const THREAD_STACK: usize = 64 << 10;

/// Counts with a thread that there is while guests run.
pub struct Clock(Arc<Shared>);

struct Shared {
    engine: Engine,
    slots: Arc<Slots>,
    /// Called when no guest has run for a while.
    idle: Box<dyn Fn() + Send + Sync>,
    running: AtomicUsize,
    /// Whether there is the thread.
    is_awake: AtomicBool,
}

/// A guest that runs, until it is dropped.
pub struct Running(Arc<Shared>);

impl Clock {
    /// A clock without a thread. `idle` is called when no guest has run for a while.
    pub fn new(
        engine: Engine,
        slots: Arc<Slots>,
        idle: impl Fn() + Send + Sync + 'static,
    ) -> Clock {
        let (running, is_awake) = (AtomicUsize::new(0), AtomicBool::new(false));
        Clock(Arc::new(Shared { engine, slots, idle: Box::new(idle), running, is_awake }))
    }

    /// Notes that a guest runs, and starts the thread if there is none.
    ///
    /// # Errors
    /// Of pthread_create(3).
    pub fn running(&self) -> io::Result<Running> {
        let shared = &self.0;
        shared.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(shared.clone());
        if !shared.is_awake.swap(true, Ordering::SeqCst) {
            let counted = shared.clone();
            let thread = thread::Builder::new().name("clock".into()).stack_size(THREAD_STACK);
            thread.spawn(move || count(&counted)).inspect_err(|_| {
                shared.is_awake.store(false, Ordering::SeqCst);
            })?;
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

fn count(shared: &Shared) {
    let (mut turns, mut turns_idle) = (0_u32, 0);
    loop {
        thread::sleep(TURN);
        shared.engine.increment_epoch();
        let is_idle = shared.running.load(Ordering::SeqCst) == 0;
        turns_idle = if is_idle { turns_idle + 1 } else { 0 };
        turns = turns.wrapping_add(1);
        if turns.is_multiple_of(TURNS_UNUSED) {
            shared.slots.release_unused();
        }
        if turns_idle == TURNS_IDLE {
            shared.is_awake.store(false, Ordering::SeqCst);
            // A guest that runs from here on has another thread started, unless it was counted before it found this one
            // awake.
            let was_missed = shared.running.load(Ordering::SeqCst) > 0;
            if !was_missed || shared.is_awake.swap(true, Ordering::SeqCst) {
                break;
            }
            turns_idle = 0;
        }
    }
    shared.slots.release();
    (shared.idle)();
}
