//! Name service of the C library (nss(5)), which looks up the names of hosts.
//!
//! glibc reads from `/etc/nsswitch.conf` how names are looked up, and loads a library for each service that is named there. In a
//! container both are files of the image, so that an image could bring native code along that runs in a guest's process.

use crate::SingleThread;

/// From now on, names of hosts are looked up in `/etc/hosts` and by DNS, whatever `/etc/nsswitch.conf` says, and no library is
/// loaded for that.
pub fn use_files_and_dns(_: &SingleThread) {
    #[cfg(target_env = "gnu")]
    glibc::use_files_and_dns();
}

#[cfg(target_env = "gnu")]
mod glibc {
    use std::ffi::{CStr, c_char, c_int};

    use nix::libc;

    /// First version that has these services built in.
    const BUILT_IN: (u32, u32) = (2, 34);

    /// Libraries with these services before that.
    const LIBRARIES: [&CStr; 2] = [c"libnss_files.so.2", c"libnss_dns.so.2"];

    unsafe extern "C" {
        /// Of `nss.h`: sets the services of a database.
        fn __nss_configure_lookup(database: *const c_char, services: *const c_char) -> c_int;
    }

    pub fn use_files_and_dns() {
        // SAFETY: both are texts that end with a NUL byte, of which it makes copies. There is no other thread.
        unsafe { __nss_configure_lookup(c"hosts".as_ptr(), c"files dns".as_ptr()) };
        if version().is_none_or(|version| version < BUILT_IN) {
            for library in LIBRARIES {
                // They stay loaded, so that those of a container are not.
                // SAFETY: the text ends with a NUL byte. The libraries are the node's.
                unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW) };
            }
        }
    }

    fn version() -> Option<(u32, u32)> {
        // SAFETY: it returns a text that lives as long as the process.
        let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) };
        let (major, minor) = version.to_str().ok()?.split_once('.')?;
        let minor = minor.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn the_version_is_known() {
            assert!(super::version().is_some_and(|version| version > (2, 0)));
        }
    }
}
