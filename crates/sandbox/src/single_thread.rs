//! Proof that this process has one thread.
//!
//! The child of a fork(2) has one thread, and every lock as it was: if another thread held the allocator's, the child can
//! allocate no more. And no thread may read the environment while another one changes it. What needs one thread therefore
//! takes a [`SingleThread`].

use std::marker::PhantomData;

use nix::sched::{CloneFlags, unshare};

use crate::Error;

/// Proof that the thread that holds it is the only one of its process. Until it is used up, its holder starts no other.
#[derive(Debug)]
pub struct SingleThread(PhantomData<*const ()>);

impl SingleThread {
    /// Asks the kernel.
    ///
    /// # Errors
    /// [`Error::System`] with EINVAL if there are other threads.
    pub fn check() -> Result<SingleThread, Error> {
        // Changes nothing, and is refused to a process with several threads (unshare(2), CLONE_THREAD).
        unshare(CloneFlags::CLONE_THREAD)
            .map_err(Error::system("make sure that this process has one thread"))?;
        Ok(SingleThread(PhantomData))
    }

    /// Without asking, where a filter may refuse the system call.
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
