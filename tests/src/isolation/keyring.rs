//! The session keyring of a process (keyrings(7)). `/proc` does not show it, so the process is made to ask the kernel.

use anyhow::{Context, Result};

/// The serial number of the process's session keyring, or why it does not say.
#[cfg(target_arch = "x86_64")]
pub fn of(pid: u32) -> Result<String> {
    use nix::sys::ptrace;
    use nix::sys::wait::{WaitPidFlag, waitpid};
    use nix::unistd::Pid;

    const GET: i64 = nix::libc::KEYCTL_GET_KEYRING_ID as i64;
    const SESSION: i64 = nix::libc::KEY_SPEC_SESSION_KEYRING as i64;
    let pid = Pid::from_raw(pid.try_into()?);
    let stopped = || waitpid(pid, Some(WaitPidFlag::__WALL)).context("wait for the process");
    ptrace::attach(pid).context("trace the process")?;
    stopped()?;
    let before = ptrace::getregs(pid)?;
    let mut call = before;
    // It was stopped in a call that waits: two bytes before, the instruction is that of a call.
    call.rip -= 2;
    call.rax = nix::libc::SYS_keyctl as u64;
    // Of no call, so that the kernel does not take the one that was broken off up again.
    call.orig_rax = u64::MAX;
    (call.rdi, call.rsi, call.rdx) = (GET as u64, SESSION as u64, 0);
    let asked = ptrace::setregs(pid, call).and_then(|()| ptrace::step(pid, None));
    let answer = asked.context("step").and_then(|()| {
        stopped()?;
        Ok(ptrace::getregs(pid)?.rax as i64)
    });
    ptrace::setregs(pid, before)?;
    ptrace::detach(pid, None)?;
    Ok(match answer? {
        serial @ 1.. => serial.to_string(),
        refused => format!("refused: {}", nix::errno::Errno::from_raw(-refused as i32)),
    })
}

/// Registers have other names there.
#[cfg(not(target_arch = "x86_64"))]
pub fn of(_pid: u32) -> Result<String> {
    Ok("not looked at".into())
}
