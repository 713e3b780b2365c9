//! The heap of a process that lives for long and does little: glibc keeps one for each thread that there ever was, and
//! what was freed, for the next time.

/// From here on all threads share one heap. To be called before there is a second thread.
pub fn share() {
    // SAFETY: a setting of the C library, which fails at worst.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
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
