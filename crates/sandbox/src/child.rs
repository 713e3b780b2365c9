//! Processes that this one forks.

/// Ends a forked process at once, without the exit handlers of the process it is a copy of.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}
