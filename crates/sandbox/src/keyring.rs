//! Session keyring (keyrings(7)), which a process inherits from its parent, with the keys in it.

use nix::errno::Errno;
use nix::libc;

/// Gives this process a new session keyring, so that it has no keys of the node or of the session in which containerd was
/// started. Does nothing on kernels without keyrings.
pub fn leave() -> nix::Result<()> {
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: the call takes a number and a null pointer, which stands for no name.
    let joined =
        unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, anonymous) };
    match Errno::result(joined) {
        Err(Errno::ENOSYS) => Ok(()),
        joined => joined.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::child::exit;

    fn own() -> i64 {
        let (get, session) = (libc::KEYCTL_GET_KEYRING_ID, libc::KEY_SPEC_SESSION_KEYRING);
        // SAFETY: the call takes three numbers; the last says that no keyring is made.
        unsafe { libc::syscall(libc::SYS_keyctl, get, session, 0) }
    }

    #[test]
    fn a_process_leaves_the_keyring_that_it_began_with() {
        // SAFETY: the child makes system calls and ends.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                // The test may have been started in any keyring.
                let has_begun = leave().is_ok();
                let before = own();
                exit(i32::from(!(has_begun && leave().is_ok() && own() != before)))
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).expect("ended"), WaitStatus::Exited(child, 0));
            }
        }
    }
}
