//! Output of an executed process on its way to containerd: a pipe, copied to the fifo.
//!
//! What is executed may leave a process in the background that goes on with its output. Where that is the fifo itself, a
//! client that reads to its end waits for that process. This way the output ends for the client with the Delete of
//! what was executed, as with runc's shim (containerd, `drain_exec_sync_io_timeout`); who still writes is sent SIGPIPE.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use sandbox::pipe;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::task::JoinHandle;

/// What is copied at once, of the 64 KiB that a pipe holds.
const CHUNK_BYTES: usize = 16 << 10;

/// A stream that is copied until it ends, or this is dropped.
#[derive(Debug)]
pub struct Relay {
    copying: JoinHandle<()>,
    pipe: File,
    /// Read from the pipe and not yet written.
    in_hand: Arc<AtomicUsize>,
    /// Kept open, so that the fifo has a reader while containerd restarts.
    fifo: File,
}

impl Relay {
    /// Copies to a fifo, of which these are the two ends, and returns the writing end of the pipe. To be called within
    /// the runtime.
    ///
    /// # Errors
    /// Of pipe(2).
    pub fn start(to: File, fifo: File) -> io::Result<(File, Relay)> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
        let pipe = File::from(reading);
        let (from, to) = (Receiver::from_file(pipe.try_clone()?)?, Sender::from_file(to)?);
        let in_hand = Arc::new(AtomicUsize::new(0));
        let copying = tokio::spawn(copy(from, to, in_hand.clone()));
        Ok((File::from(writing), Relay { copying, pipe, in_hand, fifo }))
    }

    /// How much containerd has not read yet.
    pub fn unread(&self) -> usize {
        pipe::unread(&self.pipe) + self.in_hand.load(Ordering::SeqCst) + pipe::unread(&self.fifo)
    }

    /// Whether it has ended: nobody writes any more.
    pub fn is_done(&self) -> bool {
        self.copying.is_finished()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.copying.abort();
    }
}

/// To the end: the last process that had the pipe open has closed it.
async fn copy(mut from: Receiver, mut to: Sender, in_hand: Arc<AtomicUsize>) {
    let mut chunk = vec![0; CHUNK_BYTES];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        in_hand.store(read, Ordering::SeqCst);
        if to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
        in_hand.store(0, Ordering::SeqCst);
    }
}
