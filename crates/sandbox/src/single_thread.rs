//! Proof that this process has one thread.
//!
//! The child of a fork(2) has one thread, and each lock is in the state that it had at the fork. If another thread held
//! the allocator's lock, the child cannot allocate any more. Also, a thread must not read the environment while another
//! one changes it. Functions that need a single thread therefore take a [`SingleThread`].

use std::marker::PhantomData;

use nix::sched::{CloneFlags, unshare};

use crate::Error;

/// Proof that the thread that holds it is the only one of its process. The holder must not start another thread.
#[derive(Debug)]
pub struct SingleThread(PhantomData<*const ()>);

impl SingleThread {
    /// Checks by a system call.
    ///
    /// # Errors
    /// [`Error::System`] with EINVAL if there are other threads.
    pub fn check() -> Result<SingleThread, Error> {
        // The call changes nothing, and the kernel refuses it for a process with several threads (unshare(2), CLONE_THREAD).
        unshare(CloneFlags::CLONE_THREAD)
            .map_err(Error::system("make sure that this process has one thread"))?;
        Ok(SingleThread(PhantomData))
    }

    /// Assumes it without a check, for a process whose seccomp filter may refuse the system call.
    ///
    /// # Safety
    /// This process must have one thread.
    pub(crate) unsafe fn assume() -> SingleThread {
        SingleThread(PhantomData)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::thread;

    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::child::exit;

    #[test]
    fn a_process_with_two_threads_has_no_proof() {
        let (end, ended) = channel::<()>();
        let other = thread::spawn(move || ended.recv());
        assert!(SingleThread::check().is_err());
        drop(end);
        let _ = other.join();
    }

    #[test]
    fn a_forked_process_has_one_thread() {
        // SAFETY: the child makes system calls alone.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => exit(i32::from(SingleThread::check().is_err())),
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            }
        }
    }
}
