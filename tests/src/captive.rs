//! A process that is made to do system calls of the test's choice in place of its own, by ptrace(2): what code that has
//! broken out of its sandbox there could do. The kernel refuses such a call, or carries it out, as if the process had made
//! it itself. The program that runs there does not take part in it.

use std::io::IoSlice;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::libc::user_regs_struct;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_writev};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A call that takes longer waits for something, and is interrupted.
const PATIENCE: Duration = Duration::from_millis(100);

/// Time limit for the process to stop.
const STOPS: Duration = Duration::from_secs(10);

/// Pause between two looks for a stopped process.
const INTERVAL: Duration = Duration::from_micros(50);

/// Event of a stop that was asked for (ptrace(2), `PTRACE_EVENT_STOP`).
const STOP: i32 = 128;

/// The instruction that makes a system call, and its length.
const SYSCALL: i64 = 0x050f;
const INSTRUCTION: u64 = 2;

const OPTIONS: Options = Options::PTRACE_O_TRACESYSGOOD
    .union(Options::PTRACE_O_TRACEFORK)
    .union(Options::PTRACE_O_TRACEVFORK)
    .union(Options::PTRACE_O_TRACECLONE);

/// Option that `nix` does not name.
const SUSPEND_SECCOMP: i32 = 1 << 21;

/// Bytes that an argument of a call may point to.
const SPACE: usize = 1024;

/// Distance of the arguments' bytes below the stack pointer. There is room for six of them, beyond the bytes that the
/// interrupted function may still use.
const BELOW: u64 = 8192;

/// Errors of the kernel's own for a call that was interrupted (`ERESTARTSYS` and the like), and the largest error.
const INTERRUPTED: std::ops::RangeInclusive<i64> = 512..=516;
const LARGEST_ERROR: i64 = 4095;

/// Argument of a system call.
#[derive(Debug, Clone, Copy)]
pub enum Arg {
    /// A number.
    Number(u64),
    /// The address of a text.
    Text(&'static str),
    /// The address of a kilobyte of zeros.
    Zeros,
    /// The address of numbers of eight bytes, and zeros after them.
    Words([u64; 4]),
    /// The stack pointer, at the beginning of its page.
    Stack,
}

/// What the kernel answers to a system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Done, with that result.
    Done(i64),
    /// Refused, or failed.
    Failed(Errno),
    /// It waits.
    Waits,
}

/// A process that is stopped, and makes system calls of the test's choice, until this is dropped.
#[derive(Debug)]
pub struct Captive {
    pid: Pid,
    registers: user_regs_struct,
}

impl Captive {
    /// Stops the first thread of a process, which must be in a system call that waits.
    pub fn seize(pid: u32) -> Result<Self> {
        let pid = Pid::from_raw(pid.try_into()?);
        ptrace::seize(pid, OPTIONS).context("trace the process")?;
        Self::stop(pid)
    }

    /// As [`Self::seize`], without the filters of system calls of the process, if the kernel can leave them out (ptrace(2),
    /// `PTRACE_O_SUSPEND_SECCOMP`).
    pub fn seize_unfiltered(pid: u32) -> Result<Self> {
        let traced = Pid::from_raw(pid.try_into()?);
        let unfiltered = OPTIONS.union(Options::from_bits_retain(SUSPEND_SECCOMP));
        match ptrace::seize(traced, unfiltered) {
            Ok(()) => Self::stop(traced),
            Err(_) => Self::seize(pid),
        }
    }

    /// Stops it in a call. It may just be doing something else, so that this tries again.
    fn stop(pid: Pid) -> Result<Self> {
        let start = Instant::now();
        while start.elapsed() < STOPS {
            ptrace::interrupt(pid).context("stop the process")?;
            ensure!(next(pid, STOPS)?.is_some(), "process {pid} did not stop");
            let registers = ptrace::getregs(pid)?;
            let before = ptrace::read(pid, (registers.rip - INSTRUCTION) as ptrace::AddressType)?;
            if registers.orig_rax != u64::MAX && before & 0xffff == SYSCALL {
                return Ok(Self { pid, registers });
            }
            ptrace::cont(pid, None)?;
            sleep(PATIENCE);
        }
        bail!("process {pid} waits in no call")
    }

    /// Makes the process do a system call.
    pub fn call(&self, number: i64, args: &[Arg]) -> Result<Answer> {
        let mut registers = self.registers;
        let space = (registers.rsp - BELOW) & !0xf;
        let spaces = (space..).step_by(SPACE);
        let values = args.iter().zip(spaces).map(|(arg, space)| self.value(*arg, space));
        let values = values.collect::<Result<Vec<_>>>()?;
        let value = |index: usize| values.get(index).copied().unwrap_or_default();
        // It was stopped in a call that waits: the bytes before are the instruction that made it.
        registers.rip -= INSTRUCTION;
        registers.rax = number.cast_unsigned();
        // It belongs to no call, so that the kernel does not resume the one that was interrupted.
        registers.orig_rax = u64::MAX;
        (registers.rdi, registers.rsi, registers.rdx) = (value(0), value(1), value(2));
        (registers.r10, registers.r8, registers.r9) = (value(3), value(4), value(5));
        ptrace::setregs(self.pid, registers)?;
        let has_waited = self.run_to_the_end_of_a_call()?;
        let result = ptrace::getregs(self.pid)?.rax.cast_signed();
        Ok(match result {
            _ if INTERRUPTED.contains(&-result) => Answer::Waits,
            _ if has_waited && result == -(Errno::EINTR as i64) => Answer::Waits,
            result if (-LARGEST_ERROR..0).contains(&result) => {
                Answer::Failed(Errno::from_raw(i32::try_from(-result)?))
            }
            result => Answer::Done(result),
        })
    }

    fn value(&self, arg: Arg, space: u64) -> Result<u64> {
        let mut bytes = [0; SPACE];
        match arg {
            Arg::Number(number) => return Ok(number),
            Arg::Stack => return Ok(self.registers.rsp & !0xfff),
            Arg::Text(text) => bytes[..text.len()].copy_from_slice(text.as_bytes()),
            Arg::Zeros => {}
            Arg::Words(words) => {
                for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
                    place.copy_from_slice(&word.to_ne_bytes());
                }
            }
        }
        let to = RemoteIoVec { base: usize::try_from(space)?, len: bytes.len() };
        process_vm_writev(self.pid, &[IoSlice::new(&bytes)], &[to]).context("write an argument")?;
        Ok(space)
    }

    /// Returns whether the call waited and was interrupted.
    fn run_to_the_end_of_a_call(&self) -> Result<bool> {
        let (mut stops, mut has_waited) = (0, false);
        ptrace::syscall(self.pid, None)?;
        while stops < 2 {
            let limit = if has_waited { STOPS } else { PATIENCE };
            match next(self.pid, limit)? {
                Some(WaitStatus::PtraceSyscall(_)) => stops += 1,
                Some(WaitStatus::PtraceEvent(_, _, STOP)) => {}
                Some(WaitStatus::PtraceEvent(..)) => end_child(self.pid)?,
                Some(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => {
                    bail!("process {} was killed", self.pid)
                }
                Some(_) => {}
                None if has_waited => bail!("process {} does not come back", self.pid),
                None => {
                    has_waited = true;
                    ptrace::interrupt(self.pid)?;
                    continue;
                }
            }
            if stops < 2 {
                ptrace::syscall(self.pid, None)?;
            }
        }
        Ok(has_waited)
    }
}

/// The process continues where it was stopped.
impl Drop for Captive {
    fn drop(&mut self) {
        // Both fail if it was killed.
        let _ = ptrace::setregs(self.pid, self.registers);
        let _ = ptrace::detach(self.pid, None);
    }
}

/// Ends the child that a traced process has just made.
fn end_child(parent: Pid) -> Result<()> {
    let child = Pid::from_raw(ptrace::getevent(parent)?.try_into()?);
    kill(child, Signal::SIGKILL)?;
    while !matches!(next(child, STOPS)?, None | Some(WaitStatus::Signaled(..))) {}
    Ok(())
}

/// The next stop of a process, within that time.
fn next(pid: Pid, limit: Duration) -> Result<Option<WaitStatus>> {
    let start = Instant::now();
    while start.elapsed() < limit {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL))? {
            WaitStatus::StillAlive => sleep(INTERVAL),
            status => return Ok(Some(status)),
        }
    }
    Ok(None)
}
