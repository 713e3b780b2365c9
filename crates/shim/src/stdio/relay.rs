//! Relay of an exec process's output from a pipe to containerd's fifo.
//!
//! An exec process may leave a background process that keeps its stdout open. If that were the fifo itself, a client that
//! reads to the end would wait for the background process. With the pipe, Delete of the exec process ends the output for
//! the client, as with runc's shim (containerd, `drain_exec_sync_io_timeout`), and the background process gets SIGPIPE
//! when it writes.

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

/// Bytes that are copied at once. A pipe holds 64 KiB.
const CHUNK_BYTES: usize = 16 << 10;

/// One stream, copied until it ends or this value is dropped.
#[derive(Debug)]
pub struct Relay {
    copying: JoinHandle<()>,
    pipe: File,
    /// Bytes read from the pipe and not yet written.
    in_hand: Arc<AtomicUsize>,
    /// Reading end, kept open so that the fifo has a reader while containerd restarts.
    fifo: File,
}

impl Relay {
    /// Starts copying to a fifo with the ends `to` and `fifo`, and returns the writing end of the pipe. To be called within
    /// the tokio runtime.
    ///
    /// # Errors
    /// As of pipe(2).
    pub fn start(to: File, fifo: File) -> io::Result<(File, Relay)> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC)?;
        let pipe = File::from(reading);
        let (from, to) = (Receiver::from_file(pipe.try_clone()?)?, Sender::from_file(to)?);
        let in_hand = Arc::new(AtomicUsize::new(0));
        let copying = tokio::spawn(copy(from, to, in_hand.clone()));
        Ok((File::from(writing), Relay { copying, pipe, in_hand, fifo }))
    }

    /// Bytes that containerd has not read yet.
    pub fn unread(&self) -> usize {
        pipe::unread(&self.pipe) + self.in_hand.load(Ordering::SeqCst) + pipe::unread(&self.fifo)
    }

    /// Whether all is copied and no process has the pipe open any more.
    pub fn is_done(&self) -> bool {
        self.copying.is_finished()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.copying.abort();
    }
}

/// Copies until the last process that has the pipe open closes it.
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
