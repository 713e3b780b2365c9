//! Name service of the C library (nss(5)), which looks up the names of hosts.
//!
//! glibc reads from `/etc/nsswitch.conf` how names are looked up, and loads a library for each service that is named there. In a
//! container both are files of the image, so that an image could bring native code along that runs in a guest's process.

use crate::SingleThread;

#[cfg(target_env = "gnu")]
unsafe extern "C" {
    /// Of `nss.h`: sets the services of a database.
    fn __nss_configure_lookup(
        database: *const std::ffi::c_char,
        services: *const std::ffi::c_char,
    ) -> std::ffi::c_int;
}

/// From now on, names of hosts are looked up in `/etc/hosts` and by DNS, whatever `/etc/nsswitch.conf` says. glibc has both built
/// in since 2.34.
pub fn use_files_and_dns(_: &SingleThread) {
    // SAFETY: both are texts that end with a NUL byte, of which it makes copies. There is no other thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr());
    }
}
