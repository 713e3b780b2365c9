//! Where a running guest spends its processor time, found out on demand and without a cost before.
//!
//! For as long as a profile is taken, the kernel interrupts whichever thread of the process is using the processor
//! (`ITIMER_PROF`, setitimer(2)), and the handler notes which functions the thread is in, from its stack. That works
//! as compiled WebAssembly keeps frame pointers: each frame begins with the address of its caller's frame, then the
//! return address into its caller. Wasmtime's own profiler would need code that looks at every loop whether it is
//! to be profiled, which all guests would pay for.
//!
//! What a handler may do is little (signal-safety(7)): it allocates nothing, takes no lock, and reads the stack only
//! from within functions of the guest, where the frame pointer is known to be one.

#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::thread::{Builder, sleep};
use std::time::{Duration, SystemTime};

use fxprof_processed_profile::{
    CategoryHandle, CpuDelta, Frame, FrameFlags, FrameInfo, Profile, ReferenceTimestamp,
    SamplingInterval, Timestamp,
};
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::time::{ClockId, clock_gettime};
use wasmtime::ModuleFunction;

use crate::code::Guest;

/// How often a thread is interrupted, by its processor time. The kernel's own tick bounds it.
const INTERVAL: Duration = Duration::from_millis(1);

/// How many calls of a stack are noted, the innermost first.
const DEPTH: usize = 64;

/// How many words all samples of a profile may take: 2 MiB, which a container's limit leaves the runtime.
const WORDS: usize = (2 << 20) / size_of::<usize>();

/// The words of a sample beside its functions: the time since the beginning and the processor time, both in
/// nanoseconds, and how many functions follow.
const HEADER: usize = 3;

/// A caller's frame is that much above at most: a larger stack has ended.
const FRAME: usize = 1 << 20;

/// What the handler writes to; null while no profile is taken.
static SAMPLES: AtomicPtr<Samples<'static>> = AtomicPtr::new(std::ptr::null_mut());

/// Handlers that are at work.
static AT_WORK: AtomicUsize = AtomicUsize::new(0);

/// The stack of the thread that takes profiles.
const THREAD_STACK: usize = 256 << 10;

/// How long whoever asks may take to say what for.
const PATIENCE: Duration = Duration::from_secs(5);

/// From now on the process can be asked for profiles of the guest, by [`ask`].
///
/// # Errors
/// Of pthread_create(3).
pub fn serve(name: &str, guest: &Guest, listener: UnixListener) -> io::Result<()> {
    let (name, guest) = (name.to_owned(), guest.clone());
    let thread = Builder::new().name("profile".into()).stack_size(THREAD_STACK);
    let serve = move || {
        for asking in listener.incoming().flatten() {
            if let Err(error) = answer(&name, &guest, &asking) {
                // Whoever asked has gone, or is told.
                let _ = (&asking).write_all(error.to_string().as_bytes());
            }
        }
    };
    thread.spawn(serve).map(drop)
}

fn answer(name: &str, guest: &Guest, mut asking: &UnixStream) -> io::Result<()> {
    asking.set_read_timeout(Some(PATIENCE))?;
    let mut seconds = [0; size_of::<u64>()];
    asking.read_exact(&mut seconds)?;
    let length = Duration::from_secs(u64::from_le_bytes(seconds));
    let profile = take(name, &Functions::of(guest), length)?;
    serde_json::to_writer(BufWriter::new(asking), &profile).map_err(io::Error::from)
}

/// Has a guest in another process profiled for so many whole seconds, and writes what comes back, in the format of
/// Firefox's profiler
/// (<https://github.com/firefox-devtools/profiler/blob/main/docs-developer/processed-profile-format.md>).
///
/// # Errors
/// Of the connection and of writing; [`io::ErrorKind::Other`] with the guest's own.
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

/// The functions of the code that this process runs, by address.
struct Functions {
    /// First and last address, in order.
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

/// What was noted so far. A sample is [`HEADER`], then the functions' indices.
struct Samples<'a> {
    functions: &'a Functions,
    began: i64,
    next: AtomicUsize,
    words: Box<[AtomicUsize]>,
}

/// Takes a profile of that long.
fn take(name: &str, functions: &Functions, length: Duration) -> io::Result<Profile> {
    let samples = Samples {
        functions,
        began: nanoseconds(ClockId::CLOCK_MONOTONIC),
        next: AtomicUsize::new(0),
        // SAFETY: a word of zeros is the number 0. What is not used is not made.
        words: unsafe { Box::<[AtomicUsize]>::new_zeroed_slice(WORDS).assume_init() },
    };
    // Below it is taken back before what is borrowed ends.
    let shared = (&raw const samples).cast_mut().cast::<Samples<'static>>();
    SAMPLES.store(shared, Ordering::SeqCst);
    let sampled = sample(length);
    SAMPLES.store(std::ptr::null_mut(), Ordering::SeqCst);
    while AT_WORK.load(Ordering::SeqCst) > 0 {
        std::thread::yield_now();
    }
    sampled.map(|()| profile(name, length, &samples))
}

fn sample(length: Duration) -> io::Result<()> {
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_RESTART | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::SigAction(note), flags, SigSet::all());
    // SAFETY: the handler does only what signal-safety(7) allows. It stays, for a signal that is still to come.
    unsafe { sigaction(Signal::SIGPROF, &action) }?;
    interrupt_every(INTERVAL)?;
    sleep(length);
    interrupt_every(Duration::ZERO)
}

fn interrupt_every(interval: Duration) -> io::Result<()> {
    let time = libc::timeval {
        tv_sec: interval.as_secs() as libc::time_t,
        tv_usec: interval.subsec_micros() as libc::suseconds_t,
    };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    // SAFETY: the timer outlives the call, and nothing is asked back.
    let set = unsafe { libc::setitimer(libc::ITIMER_PROF, &timer, std::ptr::null_mut()) };
    nix::errno::Errno::result(set).map(drop).map_err(io::Error::from)
}

fn nanoseconds(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// The handler of SIGPROF.
extern "C" fn note(_: libc::c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    AT_WORK.fetch_add(1, Ordering::SeqCst);
    // SAFETY: what is there lives until it was taken away from here and no handler is at work; and the kernel gives
    // every handler that asks for it (SA_SIGINFO) the context of what it has interrupted.
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

/// Where the thread is, and its frame pointer.
#[cfg(target_arch = "x86_64")]
fn registers(context: &libc::ucontext_t) -> (usize, usize) {
    let registers = &context.uc_mcontext.gregs;
    (registers[libc::REG_RIP as usize] as usize, registers[libc::REG_RBP as usize] as usize)
}

/// Where the thread is, and its frame pointer.
#[cfg(target_arch = "aarch64")]
fn registers(context: &libc::ucontext_t) -> (usize, usize) {
    (context.uc_mcontext.pc as usize, context.uc_mcontext.regs[29] as usize)
}

/// Notes which functions the thread is in, and returns how many. In none of the guest's it is in a call to its
/// host, or does not run the guest at all.
fn walk(functions: &Functions, registers: (usize, usize), stack: &mut [usize; DEPTH]) -> usize {
    let (mut address, mut frame) = registers;
    for (depth, noted) in stack.iter_mut().enumerate() {
        let Some(function) = functions.find(address) else { return depth };
        *noted = function;
        if frame == 0 || !frame.is_multiple_of(align_of::<usize>()) {
            return depth + 1;
        }
        // SAFETY: the thread is in a function of the guest, or it is where such a function will return to. Its
        // frame pointer is that of a frame of this very stack, as it is set before the first of them is called,
        // and by each of them; in the first and last instructions it is still or again the caller's.
        let [callers, returns_to] = unsafe { *(frame as *const [usize; 2]) };
        if callers <= frame || callers - frame > FRAME {
            return depth + 1;
        }
        // It returns to behind the call, which may be the last of its function.
        (address, frame) = (returns_to.wrapping_sub(1), callers);
    }
    DEPTH
}

impl Samples<'_> {
    /// One that finds no room is lost, as are those after it.
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

    /// Their times since the beginning, processor times, and functions from the innermost.
    fn read(&self) -> Vec<(u64, u64, Vec<usize>)> {
        let end = self.next.load(Ordering::SeqCst).min(WORDS);
        let mut words = self.words[..end].iter().map(|word| word.load(Ordering::Relaxed));
        let mut samples = Vec::new();
        while let (Some(time), Some(used), Some(depth)) = (words.next(), words.next(), words.next())
        {
            // The last may have found no room: its words are 0.
            if time > 0 {
                samples.push((time as u64, used as u64, words.by_ref().take(depth).collect()));
            }
        }
        samples.sort();
        samples
    }
}

fn profile(name: &str, length: Duration, samples: &Samples<'_>) -> Profile {
    let began = SystemTime::now() - length;
    let mut profile =
        Profile::new(name, ReferenceTimestamp::from(began), SamplingInterval::from(INTERVAL));
    let zero = Timestamp::from_nanos_since_reference(0);
    let process = profile.add_process(name, std::process::id(), zero);
    let thread = profile.add_thread(process, std::process::id(), zero, true);
    let host = profile.intern_string("(host)");
    let mut used_before = None;
    for (time, used, functions) in samples.read() {
        let names = functions.iter().rev().filter_map(|index| samples.functions.names.get(*index));
        let mut frames: Vec<_> = names.map(|name| profile.intern_string(name)).collect();
        if frames.is_empty() {
            frames.push(host);
        }
        let frames = frames.into_iter().map(|name| FrameInfo {
            frame: Frame::Label(name),
            category_pair: CategoryHandle::OTHER.into(),
            flags: FrameFlags::empty(),
        });
        let stack = profile.intern_stack_frames(thread, frames);
        let time = Timestamp::from_nanos_since_reference(time);
        let delta = Duration::from_nanos(used - used_before.unwrap_or(used));
        profile.add_sample(thread, time, stack, CpuDelta::from(delta), 1);
        used_before = Some(used);
    }
    profile
}
