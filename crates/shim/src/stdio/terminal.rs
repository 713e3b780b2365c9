//! Terminals: the process has one side, and the shim copies between the other side and the fifos of the client.
//!
//! The shim must copy, because containerd only knows fifos. If nothing reads them for a while, the terminal's buffer
//! fills up and its process waits.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use sandbox::console::{self, Size};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::task::JoinHandle;

use super::errors::{self, failed};
use super::logger::LogContext;
use super::streams::{self, Owner, Paths, Reader};
use crate::errors::Error;
use crate::ready::ready_fd;

/// Size of a terminal's buffer (N_TTY_BUF_SIZE).
const CHUNK: usize = 4096;

/// Fifos of a terminal.
#[derive(Debug)]
pub struct Fifos {
    stdin: Option<(Receiver, File)>,
    stdout: Option<Sender>,
    readers: Vec<Reader>,
}

impl Fifos {
    /// Opens the fifos.
    ///
    /// # Errors
    /// [`errors::Error`], also if stdout is neither a fifo nor has a logger.
    pub fn open(paths: &Paths, context: LogContext<'_>) -> Result<Fifos, errors::Error> {
        let (reading, shim) = streams::input(&paths.stdin)?;
        let stdin = reading.zip(shim).map(|(reading, shim)| {
            let reading = Receiver::from_file(nonblocking(reading)?)?;
            Ok((reading, shim))
        });
        let stdin = stdin.transpose().map_err(failed("stdin", Path::new(&paths.stdin)))?;
        // The output is not relayed, because a terminal is copied anyway.
        let ([stdout, _], readers) = streams::outputs(paths, context, Owner::First)?;
        let stdout = stdout.map(|stdout| Sender::from_file(nonblocking(stdout)?));
        let stdout = stdout.transpose().map_err(failed("stdout", Path::new(&paths.stdout)))?;
        Ok(Fifos { stdin, stdout, readers })
    }
}

/// A terminal that is copied until this is dropped.
#[derive(Debug)]
pub struct Terminal {
    master: Arc<AsyncFd<OwnedFd>>,
    input: Option<JoinHandle<()>>,
    output: JoinHandle<()>,
    shim_stdin: Option<File>,
    readers: Vec<Reader>,
}

impl Terminal {
    /// Starts to copy between a terminal and its fifos.
    pub fn start(master: OwnedFd, fifos: Fifos) -> Result<Terminal, Error> {
        let failed = || Error::io("watch the terminal");
        let master = nonblocking(master).map_err(failed())?;
        let master = Arc::new(ready_fd(master).map_err(failed())?);
        let (stdin, shim_stdin) = fifos.stdin.unzip();
        let input = stdin.map(|stdin| tokio::spawn(feed(stdin, master.clone())));
        let output = tokio::spawn(show(master.clone(), fifos.stdout));
        Ok(Terminal { master, input, output, shim_stdin, readers: fifos.readers })
    }

    /// Closes stdin: input ends after what is in the fifo.
    pub fn close_stdin(&mut self) {
        self.shim_stdin = None;
    }

    /// Resizes the terminal.
    pub fn resize(&self, size: Size) -> Result<(), Error> {
        Ok(console::resize(self.master.get_ref(), size)?)
    }

    /// Number of bytes that were not read yet, where data in the terminal counts as one.
    pub fn unread(&self) -> usize {
        let read: usize = self.readers.iter().map(Reader::unread).sum();
        read + usize::from(!self.output.is_finished())
    }

    /// Whether the shim has passed on all output.
    pub fn is_done(&self) -> bool {
        self.output.is_finished() && self.readers.iter().all(Reader::is_done)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.input.iter().for_each(JoinHandle::abort);
        self.output.abort();
    }
}

/// Copies input to the terminal.
async fn feed(mut stdin: Receiver, master: Arc<AsyncFd<OwnedFd>>) {
    let mut chunk = [0; CHUNK];
    while let Ok(read @ 1..) = stdin.read(&mut chunk).await {
        let mut rest = &chunk[..read];
        while !rest.is_empty() {
            let write = |fd: &OwnedFd| Ok(nix::unistd::write(fd, rest)?);
            // This fails if the process has ended.
            let Ok(mut ready) = master.writable().await else { return };
            match ready.try_io(|fd| write(fd.get_ref())) {
                Ok(Ok(written)) => rest = &rest[written..],
                Ok(Err(_)) => return,
                Err(_would_block) => {}
            }
        }
    }
}

/// Copies output, until the last process that has the terminal open has closed it (EIO).
async fn show(master: Arc<AsyncFd<OwnedFd>>, mut stdout: Option<Sender>) {
    let mut chunk = [0; CHUNK];
    loop {
        let Ok(mut ready) = master.readable().await else { return };
        let read = ready.try_io(|fd| Ok(nix::unistd::read(fd.get_ref(), &mut chunk)?));
        drop(ready);
        match (read, &mut stdout) {
            (Ok(Ok(0) | Err(_)), _) => return,
            (Ok(Ok(read)), Some(stdout)) => {
                if stdout.write_all(&chunk[..read]).await.is_err() {
                    return;
                }
            }
            (Ok(Ok(_)), None) | (Err(_), _) => {}
        }
    }
}

fn nonblocking<F: AsFd>(fd: F) -> io::Result<F> {
    let flags = OFlag::from_bits_truncate(fcntl(fd.as_fd(), FcntlArg::F_GETFL)?);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(fd)
}
