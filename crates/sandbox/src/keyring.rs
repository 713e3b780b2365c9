//! The session keyring (keyrings(7)): keys of who made a process, which its children have as well.

use nix::errno::Errno;
use nix::libc;

/// Gives this process a new session keyring, so that it has no key of the node's, nor one of the session that containerd was
/// started in. Kernels without keyrings have none.
pub fn leave() -> nix::Result<()> {
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: a number and a null pointer, which is no name.
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
        // SAFETY: three numbers; the last says that none is to be made.
        unsafe { libc::syscall(libc::SYS_keyctl, get, session, 0) }
    }

    #[test]
    fn a_process_leaves_the_keyring_that_it_began_with() {
        // SAFETY: the child makes system calls and ends.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                // Whatever the test was started in.
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
