//! Settings of glibc's heap. By default it keeps an arena for each thread that ever existed, and freed memory for later use.

/// Makes all threads share one arena. To be called before there is a second thread.
pub fn share() {
    // SAFETY: a setting of the C library, which fails at worst.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Makes the heap merge freed chunks at once. By default it keeps small chunks apart until a large one is allocated, which must
/// then merge all of them, and each new instance of a guest allocates large ones. To be called before there is a second
/// thread.
pub fn merge_at_once() {
    // SAFETY: as in `share`.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MXFAST, 0)
    };
}

/// Returns free memory to the kernel.
pub fn trim() {
    // SAFETY: it has no preconditions.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}
