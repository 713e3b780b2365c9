//! Finds out on demand where a running guest spends its processor time. A guest that is not profiled pays nothing for
//! it.
//!
//! While a profile is taken, the kernel interrupts whichever thread of the process is using the processor
//! (`ITIMER_PROF`, setitimer(2)). The signal handler reads from the thread's stack which functions the thread is in.
//! That works because compiled WebAssembly keeps frame pointers: each frame begins with the address of its caller's
//! frame, followed by the return address into its caller. Wasmtime's own profiler would need code that checks in every
//! loop whether it is to be profiled, and all guests would pay for that.
//!
//! A signal handler may do little (signal-safety(7)). This one allocates nothing and takes no lock. It reads the stack
//! only from within functions of the guest, where the frame pointer is known to be valid.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::thread::{Builder, sleep};
use std::time::{Duration, Instant, SystemTime};

use fxprof_processed_profile::{
    CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, Profile, ReferenceTimestamp,
    SamplingInterval, Timestamp,
};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::time::{ClockId, clock_gettime};
use tokio::task::spawn_blocking;
use wasmtime::ModuleFunction;

use crate::code::Guest;

/// Interval of the samples of a thread, in its processor time, in a short profile. The kernel's tick bounds it.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Number of samples of a thread that never waits, in a longer profile.
const SAMPLES_OF_A_THREAD: u32 = 4000;

/// Number of calls of a stack that are recorded, the innermost first.
const DEPTH: usize = 64;

/// Words of all samples of a profile: 1 MiB, because a container's limit leaves the runtime little more.
const WORDS: usize = (1 << 20) / size_of::<usize>();

/// Words of a sample before its functions: the time since the beginning and the processor time, both in nanoseconds, and the
/// number of functions that follow.
const HEADER: usize = 3;

/// Largest distance from a frame to that of its caller. A larger distance means that the stack has ended.
const FRAME: usize = 64 << 10;

/// Destination of the handler. Null while no profile is taken.
static SAMPLES: AtomicPtr<Samples<'static>> = AtomicPtr::new(std::ptr::null_mut());

/// Number of running handlers.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// Stack size of the thread that takes profiles.
const THREAD_STACK: usize = 256 << 10;

/// Time limit for a client to send its request, and to read the profile.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause after accept(2) failed for lack of descriptors or memory, in which other processes may end.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// A guest whose profile can be asked for by [`ask`].
pub struct Profiled {
    name: String,
    guest: Guest,
    listener: UnixListener,
}

impl Profiled {
    /// Takes the guest of this process.
    pub fn new(name: &str, guest: &Guest, listener: UnixListener) -> Profiled {
        Profiled { name: name.to_owned(), guest: guest.clone(), listener }
    }

    /// Serves from a thread, because the guest runs on the first one.
    ///
    /// # Errors
    /// Those of pthread_create(3).
    pub fn serve_in_thread(self) -> io::Result<()> {
        let thread = Builder::new().name("profile".into()).stack_size(THREAD_STACK);
        let serve = move || {
            loop {
                match self.listener.accept() {
                    Ok((asking, _)) => self.answer(&asking),
                    Err(error) if is_lasting(&error) => return,
                    Err(_) => sleep(ACCEPT_PAUSE),
                }
            }
        };
        thread.spawn(serve).map(drop)
    }

    /// Serves from an event loop. There is a thread only while a profile is taken.
    ///
    /// # Errors
    /// Those of epoll_ctl(2).
    pub async fn serve(self) -> io::Result<()> {
        self.listener.set_nonblocking(true)?;
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        let profiled = Arc::new(self);
        loop {
            match listener.accept().await {
                Ok((asking, _)) => {
                    let (profiled, asking) = (profiled.clone(), asking.into_std()?);
                    asking.set_nonblocking(false)?;
                    // One at a time, because the process has one timer.
                    let _ = spawn_blocking(move || profiled.answer(&asking)).await;
                }
                Err(error) if is_lasting(&error) => return Ok(()),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    }

    fn answer(&self, mut asking: &UnixStream) {
        if let Err(error) = answer(&self.name, &self.guest, asking) {
            // If this fails, the client is gone.
            let _ = asking.write_all(error.to_string().as_bytes());
        }
    }
}

/// Returns whether accept(2) will never succeed, as behind a filter of system calls that does not allow it.
fn is_lasting(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS))
}

fn answer(name: &str, guest: &Guest, mut asking: &UnixStream) -> io::Result<()> {
    asking.set_read_timeout(Some(PATIENCE))?;
    asking.set_write_timeout(Some(PATIENCE))?;
    let mut seconds = [0; size_of::<u64>()];
    asking.read_exact(&mut seconds)?;
    let length = Duration::from_secs(u64::from_le_bytes(seconds));
    let profile = take(name, &Functions::of(guest), length, asking)?;
    serde_json::to_writer(BufWriter::new(asking), &profile).map_err(io::Error::from)
}

/// Asks a guest in another process for a profile of this many whole seconds, and writes the answer, in the format of Firefox's
/// profiler (<https://github.com/firefox-devtools/profiler/blob/main/docs-developer/processed-profile-format.md>).
///
/// # Errors
/// Those of the connection and of writing. [`io::ErrorKind::Other`] with the guest's own error.
pub fn ask(guest: impl Read + Write, length: Duration, mut output: impl Write) -> io::Result<()> {
    let mut guest = guest;
    guest.write_all(&length.as_secs().to_le_bytes())?;
    let mut first = [0];
    if guest.read(&mut first)? == 0 {
        return Err(io::Error::other("the guest has ended"));
    }
    if first != *b"{" {
        let mut reason = String::new();
        guest.read_to_string(&mut reason)?;
        return Err(io::Error::other(format!("{}{reason}", char::from(first[0]))));
    }
    output.write_all(&first)?;
    io::copy(&mut guest, &mut output).map(drop)
}

/// Functions of the code that this process runs, by address.
struct Functions {
    /// First and last address of each function, in order.
    ranges: Vec<(usize, usize)>,
    names: Vec<String>,
}

impl Functions {
    fn of(guest: &Guest) -> Functions {
        let (text, mut functions): (_, Vec<ModuleFunction>) = match guest {
            Guest::Module(module) => (module.text(), module.functions().collect()),
            Guest::Component(component) => (component.text(), component.functions().collect()),
        };
        functions.retain(|function| function.len > 0);
        functions.sort_by_key(|function| function.offset);
        let start = text.as_ptr() as usize;
        let range = |function: &ModuleFunction| {
            (start + function.offset, start + function.offset + function.len - 1)
        };
        let name = |function: &ModuleFunction| match &function.name {
            Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
            None => format!("function {}", function.index.as_u32()),
        };
        Functions {
            ranges: functions.iter().map(range).collect(),
            names: functions.iter().map(name).collect(),
        }
    }

    fn find(&self, address: usize) -> Option<usize> {
        let after = self.ranges.partition_point(|(start, _)| *start <= address);
        let index = after.checked_sub(1)?;
        (address <= self.ranges[index].1).then_some(index)
    }
}

/// The samples so far. A sample is [`HEADER`], then the indices of the functions.
struct Samples<'a> {
    functions: &'a Functions,
    began: i64,
    next: AtomicUsize,
    words: Box<[AtomicUsize]>,
}

/// Takes a profile of this length, unless its client goes away.
fn take(
    name: &str,
    functions: &Functions,
    length: Duration,
    asking: &UnixStream,
) -> io::Result<Profile> {
    let interval = SHORTEST_INTERVAL.max(length / SAMPLES_OF_A_THREAD);
    let samples = Samples {
        functions,
        began: nanoseconds(ClockId::CLOCK_MONOTONIC),
        next: AtomicUsize::new(0),
        // SAFETY: a word of zeros is the number 0. Pages that are never written take no memory.
        words: unsafe { Box::<[AtomicUsize]>::new_zeroed_slice(WORDS).assume_init() },
    };
    // It is taken back below, before the borrowed values end.
    let shared = (&raw const samples).cast_mut().cast::<Samples<'static>>();
    SAMPLES.store(shared, Ordering::SeqCst);
    let sampled = sample(interval, length, asking);
    SAMPLES.store(std::ptr::null_mut(), Ordering::SeqCst);
    while AT_WORK.load(Ordering::SeqCst) > 0 {
        std::thread::yield_now();
    }
    sampled.map(|()| profile(name, interval, length, &samples))
}

fn sample(interval: Duration, length: Duration, asking: &UnixStream) -> io::Result<()> {
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::SigAction(note), flags, SigSet::all());
    // SAFETY: the handler does only what signal-safety(7) allows. It stays, because a signal may still be pending.
    unsafe { sigaction(Signal::SIGPROF, &action) }?;
    interrupt_every(interval)?;
    let waited = wait(length, asking);
    interrupt_every(Duration::ZERO)?;
    waited
}

/// Waits this long. Returns an error as soon as the client is gone.
fn wait(length: Duration, asking: &UnixStream) -> io::Result<()> {
    let end = Instant::now() + length;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        // poll(2) always reports a closed peer, without an event to ask for.
        let mut fds = [PollFd::new(asking.as_fd(), PollFlags::empty())];
        match poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn interrupt_every(interval: Duration) -> io::Result<()> {
    let time = libc::timeval {
        tv_sec: interval.as_secs() as libc::time_t,
        tv_usec: interval.subsec_micros() as libc::suseconds_t,
    };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: the value outlives the call, and the old value is not requested.
    let set = unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()) };
    Errno::result(set).map(drop).map_err(io::Error::from)
}

fn nanoseconds(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// The handler of SIGPROF.
extern "C" fn note(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    AT_WORK.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the samples live until they were taken from here and no handler is running. The kernel passes the interrupted context
    // to every handler that requests it (SA_SIGINFO).
    let found = unsafe {
        (SAMPLES.load(Ordering::SeqCst).as_ref(), context.cast::<libc::ucontext_t>().as_ref())
    };
    if let (Some(samples), Some(context)) = found {
        let mut stack = [0; DEPTH];
        let depth = walk(samples.functions, registers(context), &mut stack);
        samples.add(&stack[..depth]);
    }
    AT_WORK.fetch_sub(1, Ordering::SeqCst);
}

/// Returns the instruction pointer and the frame pointer of the thread.
#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> (usize, usize) {
    let registers = &context.uc_mcontext.gregs;
    (registers[libc::REG_RIP as usize] as usize, registers[libc::REG_RBP as usize] as usize)
}

/// Returns the instruction pointer and the frame pointer of the thread.
#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::ucontext_t) -> (usize, usize) {
    (context.uc_mcontext.pc as usize, context.uc_mcontext.regs[29] as usize)
}

/// Records the functions in which the thread is, and returns their number. It is zero if the thread is in a host call or does not
/// run the guest.
fn walk(functions: &Functions, registers: (usize, usize), stack: &mut [usize; DEPTH]) -> usize {
    let (mut address, mut frame) = registers;
    for (depth, noted) in stack.iter_mut().enumerate() {
        let Some(function) = functions.find(address) else { return depth };
        *noted = function;
        if frame == 0 || !frame.is_multiple_of(align_of::<usize>()) {
            return depth + 1;
        }
        // SAFETY: the thread is in a function of the guest, or will return to one. Its frame pointer is that of a frame of this stack,
        // because it is set before the first function is called, and by each function; in the first and last instructions of a
        // function, it is that of the caller. While a tail call makes room for more arguments than its caller had, the two words may be
        // other words of the same stack, and then the next read is only a little above on that stack.
        let [callers, returns_to] = unsafe { *(frame as *const [usize; 2]) };
        if callers <= frame || callers - frame > FRAME {
            return depth + 1;
        }
        // The return address is behind the call, which may be the last instruction of its function.
        (address, frame) = (returns_to.wrapping_sub(1), callers);
    }
    DEPTH
}

impl Samples<'_> {
    /// Adds a sample. If there is no room for it, it is lost, and so are all later ones.
    fn add(&self, stack: &[usize]) {
        let start = self.next.fetch_add(HEADER + stack.len(), Ordering::SeqCst);
        let Some(words) = self.words.get(start..start + HEADER + stack.len()) else { return };
        let time = nanoseconds(ClockId::CLOCK_MONOTONIC) - self.began;
        let used = nanoseconds(ClockId::CLOCK_PROCESS_CPUTIME_ID);
        let header = [time as usize, used as usize, stack.len()];
        for (word, value) in words.iter().zip(header.iter().chain(stack)) {
            word.store(*value, Ordering::Relaxed);
        }
    }

    /// Returns the time since the beginning and the index of the first word of each sample, in order of time.
    fn starts(&self) -> Vec<(usize, usize)> {
        let end = self.next.load(Ordering::SeqCst).min(WORDS);
        let mut starts = Vec::new();
        let mut start = 0;
        while start + HEADER <= end {
            let depth = self.word(start + 2);
            // The words of the last sample are 0 if there was no room for it.
            if self.word(start) > 0 && start + HEADER + depth <= end {
                starts.push((self.word(start), start));
            }
            start += HEADER + depth;
        }
        starts.sort_unstable();
        starts
    }

    /// Returns the names of the functions of the sample at this index, the outermost first.
    fn names(&self, start: usize) -> impl Iterator<Item = &str> {
        let first = start + HEADER;
        let functions = (first..first + self.word(start + 2)).rev();
        functions.filter_map(|word| Some(self.functions.names.get(self.word(word))?.as_str()))
    }

    fn word(&self, index: usize) -> usize {
        self.words[index].load(Ordering::Relaxed)
    }
}

fn profile(name: &str, interval: Duration, length: Duration, samples: &Samples<'_>) -> Profile {
    let began = ReferenceTimestamp::from(SystemTime::now() - length);
    let mut profile = Profile::new(name, began, SamplingInterval::from(interval));
    let zero = Timestamp::from_nanos_since_reference(0);
    let process = profile.add_process(name, std::process::id(), zero);
    let thread = profile.add_thread(process, std::process::id(), zero, true);
    let starts = samples.starts();
    let mut used_before = starts.first().map_or(0, |(_, start)| samples.word(start + 1));
    for (time, start) in starts {
        let label = |profile: &mut Profile, name: &str| FrameInfo {
            frame: Frame::Label(profile.intern_string(name)),
            category_pair: CategoryHandle::OTHER.into(),
            flags: FrameFlags::empty(),
        };
        let mut frames: Vec<_> =
            samples.names(start).map(|name| label(&mut profile, name)).collect();
        if frames.is_empty() {
            frames.push(label(&mut profile, "(host)"));
        }
        let stack = profile.intern_stack_frames(thread, frames.into_iter());
        // Threads that are interrupted at once may have read it in another order.
        let used = samples.word(start + 1).max(used_before);
        let delta = Duration::from_nanos((used - used_before) as u64);
        let time = Timestamp::from_nanos_since_reference(time as u64);
        profile.add_sample(thread, time, stack, CpuDelta::from(delta), 1);
        used_before = used;
    }
    profile
}
