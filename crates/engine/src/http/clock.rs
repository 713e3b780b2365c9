//! Clock of the server: interrupts guests that run for long, so that others get their time slice. It counts the
//! engine's epochs while a guest runs, and releases memory that instances no longer need.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use wasmtime::Engine;

use crate::serving::slots::Slots;

/// Time slice of a guest.
const SLICE: Duration = Duration::from_millis(10);

/// Slices without a guest after which the clock's thread ends, so that an idle server wakes no processor and needs no memory.
const SLICES_IDLE: u32 = 100;

/// Slices after which memory that was not needed during them is released.
const SLICES_UNUSED: u32 = 200;

/// Stack size of a thread that only makes system calls.
const THREAD_STACK: usize = 64 << 10;

/// Clock with a thread that exists only while guests run.
pub struct Clock(Arc<Shared>);

struct Shared {
    engine: Engine,
    slots: Arc<Slots>,
    /// Called when no guest has run for a while.
    idle: Box<dyn Fn() + Send + Sync>,
    running: AtomicUsize,
    /// Whether the thread exists. It is changed under `transition` alone.
    is_awake: AtomicBool,
    /// Held while the thread is started, and while it decides to end.
    transition: Mutex<()>,
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
        let (idle, transition) = (Box::new(idle), Mutex::default());
        Clock(Arc::new(Shared { engine, slots, idle, running, is_awake, transition }))
    }

    /// Notes that a guest runs, and starts the thread if there is none.
    ///
    /// # Errors
    /// Of pthread_create(3): without a thread no guest may run, because nothing would interrupt it.
    pub fn running(&self) -> io::Result<Running> {
        self.running_by(start)
    }

    fn running_by(&self, start: impl FnOnce(Arc<Shared>) -> io::Result<()>) -> io::Result<Running> {
        let shared = &self.0;
        shared.running.fetch_add(1, Ordering::SeqCst);
        let running = Running(shared.clone());
        // The guest was counted before: a thread that is seen awake here sees the guest before it ends.
        if !shared.is_awake.load(Ordering::SeqCst) {
            // A start of another caller may be under way, and may fail: its outcome decides.
            let _transition = shared.transition();
            if !shared.is_awake.load(Ordering::SeqCst) {
                start(shared.clone())?;
                shared.is_awake.store(true, Ordering::SeqCst);
            }
        }
        Ok(running)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn transition(&self) -> MutexGuard<'_, ()> {
        self.transition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks the clock as being without a thread, unless a guest runs.
    fn may_end(&self) -> bool {
        let _transition = self.transition();
        self.is_awake.store(false, Ordering::SeqCst);
        // A guest that is counted from here on finds no thread, and has one started. One that was counted before may have
        // seen this one awake.
        let is_needed = self.running.load(Ordering::SeqCst) > 0;
        self.is_awake.store(is_needed, Ordering::SeqCst);
        !is_needed
    }
}

fn start(shared: Arc<Shared>) -> io::Result<()> {
    let thread = thread::Builder::new().name("clock".into()).stack_size(THREAD_STACK);
    thread.spawn(move || count(&shared)).map(drop)
}

fn count(shared: &Shared) {
    let (mut slices, mut slices_idle) = (0_u32, 0);
    loop {
        thread::sleep(SLICE);
        shared.engine.increment_epoch();
        let is_idle = shared.running.load(Ordering::SeqCst) == 0;
        slices_idle = if is_idle { slices_idle + 1 } else { 0 };
        slices = slices.wrapping_add(1);
        if slices.is_multiple_of(SLICES_UNUSED) {
            shared.slots.release_unused();
        }
        if slices_idle == SLICES_IDLE {
            if shared.may_end() {
                break;
            }
            slices_idle = 0;
        }
    }
    shared.slots.release();
    (shared.idle)();
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn clock() -> Clock {
        Clock::new(Engine::default(), Slots::new(None), || ())
    }

    fn refused() -> io::Result<()> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn a_guest_that_comes_while_the_clock_fails_to_start_has_a_clock_or_the_error() {
        for second_fails in [false, true] {
            let clock = clock();
            let (starting, is_starting) = mpsc::channel();
            let (fail, failing) = mpsc::channel::<()>();
            thread::scope(|scope| {
                let first = scope.spawn(|| {
                    clock.running_by(move |_| {
                        starting.send(()).unwrap();
                        failing.recv().unwrap();
                        refused()
                    })
                });
                is_starting.recv().unwrap();
                let second = scope
                    .spawn(|| clock.running_by(|_| if second_fails { refused() } else { Ok(()) }));
                thread::sleep(Duration::from_millis(100));
                fail.send(()).unwrap();
                assert!(first.join().unwrap().is_err());
                assert_eq!(second.join().unwrap().is_err(), second_fails);
            });
            assert_eq!(clock.0.is_awake.load(Ordering::SeqCst), !second_fails);
            assert_eq!(
                clock.0.running.load(Ordering::SeqCst),
                0,
                "guests that are gone count no more"
            );
        }
    }

    #[test]
    fn a_clock_ends_only_without_a_guest_and_starts_again_with_the_next() {
        let clock = clock();
        let mut starts = 0;
        let mut running = || {
            let start = |_| {
                starts += 1;
                Ok(())
            };
            clock.running_by(start).unwrap()
        };
        let guest = running();
        assert!(!clock.0.may_end(), "a guest runs");
        drop((guest, running()));
        assert!(clock.0.may_end());
        drop(running());
        assert_eq!(starts, 2);
    }
}
