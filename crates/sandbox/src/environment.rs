//! Environment of a process. A process begins with containerd's environment, which a container's process must not keep.

use std::ffi::c_char;
use std::ptr;

use crate::SingleThread;

unsafe extern "C" {
    /// The C library's list of variables (environ(7)).
    static environ: *mut *mut c_char;
}

/// Removes all variables, and overwrites their memory: `/proc/<pid>/environ` shows that memory, even if it is not in use any
/// more, to every process that may trace this one.
pub fn clear(_: &SingleThread) {
    // SAFETY: there is no other thread that could use the list. It ends with a null pointer, and each of its entries is a C
    // string in memory that is this process's own to write: the stack it was started with, or what setenv allocated. Rust
    // has copies of values only, and no reference into them.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            ptr::write_bytes(*entry, 0, libc::strlen(*entry));
            entry = entry.add(1);
        }
        libc::clearenv();
    }
}

/// Adds variables. It skips those with an invalid name or value: an empty name, a name with `=`, a NUL byte.
pub fn put<'a>(_: &SingleThread, variables: impl Iterator<Item = (&'a str, &'a str)>) {
    for (key, value) in variables {
        if !key.is_empty() && !key.contains('=') && !format!("{key}{value}").contains('\0') {
            // SAFETY: there is no other thread that could use the list.
            unsafe { std::env::set_var(key, value) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::{env, fs};

    use crate::SingleThread;

    /// Variable that is set in the process in which the test runs: that one has no other threads.
    const INSIDE: &str = "WASMTIME_SHIM_TEST_ENVIRONMENT";

    #[test]
    fn nothing_of_it_is_left() {
        if env::var_os(INSIDE).is_some() {
            let shown = || fs::read_to_string("/proc/self/environ").expect("read");
            assert!(shown().contains(INSIDE));
            // SAFETY: libtest makes the one test that it was asked for in the thread of `main`.
            let single = unsafe { SingleThread::assume() };
            super::clear(&single);
            assert_eq!(env::vars_os().count(), 0);
            assert_eq!(shown().trim_matches('\0'), "");
            let given = [("A", "b=c"), ("", "d"), ("E=", "f"), ("G", "h\0"), ("I\0", "j")];
            super::put(&single, given.into_iter());
            assert_eq!(env::vars().collect::<Vec<_>>(), [("A".to_owned(), "b=c".to_owned())]);
            return;
        }
        let name = "environment::tests::nothing_of_it_is_left";
        let itself = env::current_exe().expect("a path");
        let status = Command::new(itself)
            .args([name, "--exact", "--test-threads=1"])
            .env(INSIDE, "1")
            .status()
            .expect("start");
        assert!(status.success());
    }
}
