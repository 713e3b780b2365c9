//! What glibc's heap is told of a process: by default it keeps one for each thread that there ever was, and what was freed,
//! for the next time.

/// From here on all threads share one heap. To be called before there is a second thread.
pub fn share() {
    // SAFETY: a setting of the C library, which fails at worst.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// From here on what a thread's own few pieces have no room for is merged, when it is freed, with what is free beside it. What
/// is small is kept apart otherwise, until something large is asked for, which then has to merge all of it: as each new
/// instance of a guest does. To be called before there is a second thread.
pub fn merge_at_once() {
    // SAFETY: as in `share`.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0)
    };
}

/// Gives back what is free.
pub fn trim() {
    // SAFETY: it has no preconditions.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}
